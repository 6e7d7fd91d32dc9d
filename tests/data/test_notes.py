"""The lines that people read of a data set."""

from __future__ import annotations

import numpy as np

from fedloom.data.containers import FederatedDataset, TextSet
from fedloom.data.datasets.flora import load as flora
from fedloom.data.notes import data_notes, lines


def test_a_sound_set_says_nothing() -> None:
    assert data_notes(flora(size=12, images=20, texts=20, test=20, generic=20, reference=20)) == []
    assert lines({"task": "acted", "speakers_train": 9, "unreadable_images": 0, "unreadable_examples": []}) == []


def test_counts_of_every_kind_of_reader() -> None:
    assert lines({"unreadable_images": 2, "unreadable_examples": ["a.jpg", "b.jpg"]}) == [
        "Unreadable pictures, left out: 2, such as a.jpg, b.jpg"
    ]
    assert lines({"missing_clips": 1, "skipped_examples": ["c.wav: there is no such file"], "silent_clips": 3}) == [
        "Missing clips, left out: 1, such as c.wav: there is no such file",
        "Clips without any sound: 3",
    ]
    assert lines({"captions_empty": 4, "images_without_captions": 1}) == [
        "Empty captions, left out: 4",
        "Pictures without captions: 1",
    ]
    assert lines({"missing_images": 1, "missing_examples": ["x.jpg"], "unjudged": 7}) == [
        "Missing pictures, left out: 1, such as x.jpg",
        "Posts without a label, left out: 7",
    ]


def test_sets_within_sets_and_readers_from_elsewhere() -> None:
    assert lines({"pair": {"captions_empty": 1}, "text": {"empty_texts": 0}}) == ["pair: Empty captions, left out: 1"]
    assert lines({"slides_without_tissue": 3, "scanner": "old\nand new", "odd": list("abcdefg"), "none": None}) == [
        "Slides without tissue: 3",
        "Scanner: old and new",
        "Odd: a, b, c, d, e and 2 more",
    ]


def test_classes_that_a_part_lacks_whatever_the_reader() -> None:
    names = tuple(f"class {i}" for i in range(9))
    train, test = TextSet(("a", "b"), np.array([0, 1])), TextSet(("c",), np.array([0]))
    assert data_notes(FederatedDataset("own", names, {"text": train}, {"text": test})) == [
        "Classes without training texts: class 2, class 3, class 4, class 5, class 6 and 2 more",
        "Classes without test texts: class 1, class 2, class 3, class 4, class 5 and 3 more",
    ]


def test_lines_can_be_written_anywhere() -> None:
    (line,) = lines({"unreadable_images": 1, "unreadable_examples": ["caf\udce9.jpg"]})
    assert line.encode().endswith(b"caf\\xe9.jpg")
