"""The public files on their way from the server to a silo: what is packed, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.experiment.pretraining import Assets, backbone_name
from fedloom.experiment.public_files import pack_public, public_backbone, unpack_public

VIT, BERT = ModelSettings(arch="vit"), ModelSettings(arch="bert")


@pytest.fixture
def assets(tmp_path):
    """Folders as the cache has them, with what does not belong to the model."""
    cache = tmp_path / "cache"
    names = {"tokenizer": ("tokenizer.json", "tokenizer_config.json", "notes.py", ".lock", "manifest.json")}
    names |= dict.fromkeys(("0a1b", "2c3d"), ("backbone.safetensors", "manifest.json"))
    for folder, files in names.items():
        (cache / folder).mkdir(parents=True)
        for file in files:
            (cache / folder / file).write_text(f"{folder} {file}")
    backbones = {backbone_name(VIT): cache / "2c3d", backbone_name(BERT): cache / "0a1b"}
    return Assets(cache / "tokenizer", backbones)


@pytest.fixture
def files(assets):
    return pack_public(assets)


@pytest.fixture
def room(tmp_path):
    """An empty folder."""
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def test_what_is_packed(files):
    assert list(files) == [
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "backbones/index.json",
        "backbones/0a1b/backbone.safetensors",
        "backbones/2c3d/backbone.safetensors",
    ]
    assert all(a.dtype == np.uint8 and a.ndim == 1 for a in files.values())
    assert files["tokenizer/tokenizer.json"].tobytes() == b"tokenizer tokenizer.json"


def test_they_arrive_as_they_were(files, room):
    place = room / "deep" / "public"
    for _ in range(2):
        unpack_public(files, place)
    found = {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert found == {name: content.tobytes() for name, content in files.items()}
    assert [p.name for p in place.parent.iterdir()] == ["public"]


def test_which_backbone_a_learner_starts_from(files, room):
    unpack_public(files, room / "public")
    assert public_backbone(room / "public", VIT) == room / "public" / "backbones" / "2c3d"
    assert public_backbone(room / "public", BERT) == room / "public" / "backbones" / "0a1b"
    assert public_backbone(room / "public", VIT.model_copy(update={"hidden": 32})) is None
    assert public_backbone(room / "public", VIT.model_copy(update={"pretrained": "own"})) is None
    assert public_backbone(room / "nothing", VIT) is None


def test_files_of_an_earlier_run_are_gone(files, room):
    unpack_public(files, room / "public")
    fewer = {k: v for k, v in files.items() if "0a1b" not in k}
    unpack_public(fewer, room / "public")
    assert not (room / "public" / "backbones" / "0a1b").exists()
    with pytest.raises(BadInput, match=r"names 0a1b, which holds no backbone.safetensors"):
        public_backbone(room / "public", BERT)


def test_what_a_killed_writer_left_is_mended(files, room):
    unpack_public(files, room / "public")
    (room / "public").rename(room / ".public.old")  # killed between its two renames
    (room / ".public.part").mkdir()
    with pytest.raises(BadInput):
        unpack_public({"../x": files["backbones/index.json"]}, room / "public")
    unpack_public(files, room / "public")
    assert [p.name for p in room.iterdir()] == ["public"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside.json",
        "tokenizer/../../outside.json",
        "tokenizer/..",
        "tokenizer/.hidden.json",
        "tokenizer\\up.json",
        "tokenizer/model.py",
        "tokenizer/pytorch_model.bin",
        "tokenizer/a.json\n",
        "backbones/a/b/backbone.safetensors",
        "backbones/../backbone.safetensors",
        "C:/tokenizer/a.json",
        "index.json",
        "",
    ],
)
def test_other_names_are_refused(name, files, room):
    place = room / "public"
    unpack_public(files, place)
    with pytest.raises(BadInput, match="is refused, allowed: tokenizer/"):
        unpack_public({**files, name: np.zeros(3, np.uint8)}, place)
    assert [p.name for p in room.iterdir()] == ["public"]
    assert (place / "tokenizer" / "tokenizer.json").is_file()  # what it held before


def test_links_and_other_arrays_are_refused(files, room):
    elsewhere = room / "elsewhere"
    elsewhere.mkdir()
    (room / "public").symlink_to(elsewhere)
    with pytest.raises(BadInput, match="is a link"):
        unpack_public(files, room / "public")
    assert list(elsewhere.iterdir()) == []
    for array in (np.zeros(3, np.float32), np.zeros((1, 3), np.uint8), b"abc"):
        with pytest.raises(BadInput, match="expected its bytes as uint8"):
            unpack_public({"tokenizer/a.json": array}, room / "other")
