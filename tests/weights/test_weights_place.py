"""Which folder counts, and what from_pretrained is given."""

from __future__ import annotations

import pytest

from fedloom.weights import hub_arguments, placed, weights_root
from fedloom.weights.catalogue import sources
from fedloom.weights.place import LOCK, MARK, state_of

BERT = "google-bert/bert-base-uncased"
INCEPTION = "fid/inception-v3"


@pytest.fixture(autouse=True)
def _place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


def fill(name, *files):
    for file in files:
        path = weights_root() / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return weights_root() / name


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ((), "missing"),
        (("config.json",), "unfinished"),
        (("model.safetensors",), "unfinished"),
        (("config.json", "model.safetensors"), "by hand"),
        (("config.json", "pytorch_model.bin"), "by hand"),
        (("model_index.json", "unet/diffusion_pytorch_model.safetensors"), "by hand"),
        (("config.json", "model.safetensors", MARK), "unfinished"),
        (("config.json", "model.safetensors", ".cache/huggingface/download/x.incomplete"), "unfinished"),
        (("config.json", "model.safetensors", LOCK), "ready"),
    ],
)
def test_states(files, state):
    folder = fill(BERT, *files)
    assert state_of(sources()[BERT], folder) == state
    assert placed(BERT) == (str(folder) if state in ("ready", "by hand") else BERT)


def test_single_files_count_when_all_are_there():
    (file,) = sources()[INCEPTION].files
    assert placed(INCEPTION) == INCEPTION
    fill(INCEPTION, "other.pth")
    assert placed(INCEPTION) == INCEPTION
    folder = fill(INCEPTION, file.path)
    assert placed(INCEPTION) == str(folder)


def test_what_glide_is_made_from_is_not_glide():
    fill("openai/glide", "published/base.pt", "published/upsample.pt", "published/vocab.bpe.gz")
    assert placed("openai/glide") == "openai/glide"


def test_a_path_is_itself(tmp_path):
    (tmp_path / BERT).mkdir(parents=True)
    fill(BERT, LOCK)
    assert placed(BERT) == BERT
    assert hub_arguments(BERT) == {}


def test_arguments():
    """A run asks no hub."""
    assert hub_arguments(BERT) == {"revision": sources()[BERT].revision, "local_files_only": True}
    assert hub_arguments("some/model") == {"local_files_only": True}
    fill(BERT, LOCK)
    assert hub_arguments(BERT) == {}
