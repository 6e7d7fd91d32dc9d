"""What the catalogue says of each source is of the form it must have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedloom.references import load_reference
from fedloom.weights.catalogue import MAIN, source_of, sources
from fedloom.weights.packages import parse_address
from fedloom.weights.place import is_hub_name

NAMED = (
    *("google/vit-base-patch32-224-in21k", "google/vit-base-patch16-224", "microsoft/beit-base-patch16-224"),
    *("microsoft/resnet-18", "google-bert/bert-base-uncased", "distilbert/distilbert-base-uncased"),
    *("FacebookAI/roberta-base", "Salesforce/blip-image-captioning-base", "openai/clip-vit-base-patch32"),
    *("stable-diffusion-v1-5/stable-diffusion-v1-5", "openai/glide", "fid/inception-v3"),
    *("sentence-transformers/all-MiniLM-L6-v2", "efficientnet/lite0", "madebyollin/taef2"),
)


def test_the_weights_of_the_presets_are_in_it():
    assert set(NAMED) == set(sources())


@pytest.mark.parametrize("source", sources().values(), ids=lambda s: s.name)
def test_entries(source):
    assert is_hub_name(source.name)
    assert source.revision == MAIN or re.fullmatch("[0-9a-f]{40}", source.revision)
    assert source.licence
    assert source.evidence != source_of("no/such").evidence
    assert all(f.sha256 is None or re.fullmatch("[0-9a-f]{64}", f.sha256) for f in source.files)
    assert source.made_by is None or callable(load_reference(source.made_by, "converter"))
    if source.packaged:
        assert all(parse_address(str(f.url)).sha256 and f.bytes and f.sha256 for f in source.files)
        return
    if source.kind == "files":
        assert all(str(f.url).startswith("https://") for f in source.files)
        return
    weights = [f for f in source.files if f.path.endswith((".safetensors", ".bin"))]
    assert all(f.sha256 for f in weights)
    known = sum(f.bytes or 0 for f in weights)
    assert not all(f.bytes for f in weights) or known <= source.bytes <= 1.02 * known + 4_000_000


def test_no_pickle_where_there_is_something_else():
    pickled = {s.name for s in sources().values() for f in s.files if f.path.endswith(".bin")}
    assert pickled == {"Salesforce/blip-image-captioning-base", "openai/clip-vit-base-patch32"}


def test_stable_diffusion_is_its_parts_alone():
    folders = {f.path.split("/")[0] for f in sources()["stable-diffusion-v1-5/stable-diffusion-v1-5"].files}
    assert folders == {"model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler"}


@pytest.mark.parametrize("name", ["fid/inception-v3", "efficientnet/lite0"])
def test_files_that_are_named_by_their_digest(name):
    (file,) = sources()[name].files
    assert str(file.sha256)[:8] in file.path


def test_sizes_of_glide_are_those_of_our_networks():
    """The published files are float32 tensors and up to 250 kB of names."""
    import torch

    from fedloom.models.generators.glide.convert import to_published
    from fedloom.models.generators.glide.networks import UPSAMPLER, GlideTextEncoder, GlideUNet

    total = 0
    with torch.device("meta"):
        for sizes in ({}, UPSAMPLER):
            total += sum(4 * v.numel() for v in to_published(GlideTextEncoder(), GlideUNet(**sizes)).values())
    source = sources()["openai/glide"]
    assert total < source.bytes < total + 1_000_000
    assert abs(source.made_bytes - total) < 1_000_000


def test_the_guide_shows_the_catalogue():
    guide = Path(__file__).resolve().parents[2] / "docs" / "guide" / "weights.md"
    lines = [line.strip("| ").split(" | ") for line in guide.read_text("utf-8").splitlines() if line.startswith("| `")]
    shown = {name.strip("`"): (revision.strip("`"), licence) for name, revision, _, licence in lines}
    assert shown == {
        s.name: (s.revision[:7] if s.pinned else "not pinned" if s.kind == "hub" else "–", s.licence)
        for s in sources().values()
    }
