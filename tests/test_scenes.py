"""A scene kept as arrays, and shared out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.config import DataSettings
from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.data.datasets.flora import load
from fedloom.data.joint import MultimodalSamples
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput
from fedloom.experiment.datasets import _load, _save, cached_dataset, split_scene

FEW: dict[str, Any] = {"size": 12, "images": 20, "texts": 20, "test": 20, "generic": 20, "reference": 20}
SCENE = load(pairs=50, captions=2, test_pairs=10, text_labels="family", **FEW)


def test_pairs_come_back_from_disk(tmp_path: Path) -> None:
    assert SCENE.public is not None
    longer = replace(SCENE.public, texts=("as it was written", "", "größer"))
    _save(replace(SCENE, public=longer, also_named={SCENE.class_names[1]: "Rosa"}), tmp_path)
    again = _load(tmp_path)
    assert again.prompts[1] == f"A picture of {SCENE.class_names[1]}, also named Rosa."
    assert again.prompts[0] == SCENE.prompts[0]
    for part in ("train", "test"):
        kept, read = (getattr(scene, part) for scene in (SCENE, again))
        assert set(kept) == set(read) == {"image", "text", "pair"}
        assert np.array_equal(kept["image"].images, read["image"].images)
        assert kept["text"].texts == read["text"].texts
        alike(kept["pair"], read["pair"])
    alike(SCENE.public_test, again.public_test)
    assert again.text_class_names == SCENE.text_class_names
    assert again.public is not None
    assert again.public.texts == longer.texts
    assert SCENE.public.texts == ()


def heard_and_read(n: int = 5) -> FederatedDataset:
    """Multimodal samples of sound and text; the second has no sound, the third no text."""
    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(n, 3, 4)).astype(np.float16)
    sounds[1] = 0
    present = {"audio": np.arange(n) != 1, "text": np.arange(n) != 2}
    texts = tuple("" if i == 2 else f"größer \n {i}" for i in range(n))
    held = MultimodalSamples(
        {"audio": sounds, "text": texts}, np.arange(n) % 2, present, tuple(f"clip {i}" for i in range(n))
    )
    return FederatedDataset(
        "made", ("x", "y"), {"joint": held}, {"joint": held.subset([0, 1])}, notes={"missing_clips": 3}
    )


def test_joint_samples_come_back_from_disk(tmp_path: Path) -> None:
    scene = heard_and_read()
    _save(scene, tmp_path)
    again = _load(tmp_path)
    assert again.modalities == ("audio", "text")
    assert again.notes == scene.notes
    for part in ("train", "test"):
        kept, read = (getattr(s, part)["joint"] for s in (scene, again))
        assert isinstance(read, MultimodalSamples)
        assert list(read.parts) == ["audio", "text"]
        assert read.parts["audio"].dtype == np.float16
        assert np.array_equal(read.parts["audio"], kept.parts["audio"])
        assert read.parts["text"] == kept.parts["text"]
        assert np.array_equal(read.labels, kept.labels)
        assert read.ids == kept.ids
        for kind, there in kept.present.items():
            assert np.array_equal(read.present[kind], there)


def test_joint_samples_stay_on_disk_until_a_share_is_taken(tmp_path: Path) -> None:
    """Clips of real size outgrow memory; what a client has taken is its own, whatever becomes of the file."""
    _save(heard_and_read(), tmp_path)
    held = _load(tmp_path).train["joint"]
    assert isinstance(held, MultimodalSamples)
    whole = held.parts["audio"]
    assert isinstance(whole, np.memmap)
    assert not whole.flags.writeable
    share = held.subset([3, 0])
    own = share.parts["audio"]
    assert isinstance(own, np.ndarray)
    assert not isinstance(own, np.memmap)
    assert not np.shares_memory(own, whole)
    assert np.array_equal(own, whole[[3, 0]])
    own[:] = 0  # of no effect on the others
    assert whole[3].any()


def test_joint_samples_without_names_come_back(tmp_path: Path) -> None:
    scene = heard_and_read()
    held = scene.train["joint"]
    assert isinstance(held, MultimodalSamples)
    nameless = {"joint": replace(held, ids=())}
    _save(replace(scene, train=nameless), tmp_path)
    read = _load(tmp_path).train["joint"]
    assert isinstance(read, MultimodalSamples)
    assert read.ids == ()
    assert len(read) == 5


def test_other_clients_of_a_scene_of_joint_samples_are_told_what_fits() -> None:
    with pytest.raises(BadInput) as raised:
        split_scene(heard_and_read(), DataSettings(), 4, "image", 0)
    assert str(raised.value) == (
        "made has no pictures for 4 image clients; its samples are of two kinds at once: take the preset fedcmi, "
        "or set clients.joint in their place"
    )
    with pytest.raises(BadInput, match=r"has no multimodal samples for 2 multimodal clients; set clients\.joint=\[\]$"):
        split_scene(SCENE, DataSettings(), 2, "joint", 0)


def alike(a: Any, b: Any) -> None:
    assert isinstance(a, ImageTextPairs)
    assert isinstance(b, ImageTextPairs)
    assert np.array_equal(a.images, b.images)
    assert np.array_equal(a.owner, b.owner)
    assert a.captions == b.captions


def test_a_changed_file_of_an_inner_root_renews_the_scene(tmp_path: Path) -> None:
    news = tmp_path / "news"
    news.mkdir()
    for part in ("train", "test"):
        (news / f"{part}.csv").write_text('"1","a","b"\n"2","c","d"\n', encoding="utf-8")
    write_captioned(tmp_path / "captioned")
    data = DataSettings(
        name="mixed",
        options={
            "size": 8,
            "text": {"name": "ag_news", "root": str(news)},
            "public": {"name": "caption_parquet", "root": str(tmp_path / "captioned")},
        },
    )
    assert len(cached_dataset(data).test["text"]) == 2
    with (news / "test.csv").open("a", encoding="utf-8") as file:
        file.write('"3","e","f"\n')
    assert len(cached_dataset(data).test["text"]) == 3


def write_captioned(root: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    root.mkdir()
    cell = io.BytesIO()
    Image.new("RGB", (9, 8), "red").save(cell, "PNG")
    for part in ("train", "val"):
        pq.write_table(pa.table({"image": [cell.getvalue()], "captions": [["a", "b"]]}), root / f"{part}.parquet")


def test_pairs_are_dealt_whole() -> None:
    shares = {
        scheme: split_scene(SCENE, DataSettings(partition=scheme), 4, "pair", 0)
        for scheme in ("iid", "dirichlet", "pathological")
    }
    for split in shares.values():
        assert sorted(np.concatenate(split.indices).tolist()) == list(range(50))
        assert split.counts(1).shape == (4, 1)
        assert split.describe()["samples"] == 50
    assert [len(i) for i in shares["iid"].indices] == [13, 13, 12, 12]
    assert all(np.array_equal(a, b) for a, b in zip(shares["dirichlet"].indices, shares["pathological"].indices))
    neighbours = {scheme: sum((np.diff(i) == 1).sum() for i in split.indices) for scheme, split in shares.items()}
    assert neighbours["dirichlet"] >= 25 > neighbours["iid"]


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_too_few_pairs(scheme: Any) -> None:
    with pytest.raises(BadInput, match=r"^image-text clients: 50 samples cannot give 5 clients 11 each"):
        split_scene(SCENE, DataSettings(partition=scheme, minimum=11), 5, "pair", 0)
    with pytest.raises(BadInput, match=r"has no pairs for 2 image-text clients; set clients.pair=\[\]"):
        split_scene(load(**FEW), DataSettings(), 2, "pair", 0)


def test_labels_are_checked_in_their_own_space() -> None:
    images = ImageSet(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    texts = TextSet(("a", "b"), np.array([0, 2]))
    assert FederatedDataset("s", ("x", "y"), {"image": images, "text": texts}, {}, text_class_names=("p", "q", "r"))
    with pytest.raises(BadInput, match=r"s: train text label 2 is out of range, allowed 0\.\.1"):
        FederatedDataset("s", ("x", "y"), {"text": texts}, {})
    with pytest.raises(BadInput, match=r"s: train image label 1 is out of range, allowed 0\.\.0"):
        FederatedDataset("s", ("x",), {"image": images}, {}, text_class_names=("p", "q", "r"))
    with pytest.raises(BadInput, match="s: train pair is a TextSet"):
        FederatedDataset("s", ("x",), {"pair": texts}, {})
    with pytest.raises(BadInput, match="s: no test pairs, there are: none"):
        FederatedDataset("s", ("x", "y"), {"image": images}, {}).pairs("test")
    with pytest.raises(BadInput, match="train pairs have no labels"):
        SCENE.labelled("train", "pair")
