"""Accuracy of each style and language on the others."""

from __future__ import annotations

import sys
from pathlib import Path

import groups
import numpy as np
import pytest

import given_models
from fedloom.data.containers import Attribute


def test_a_group_that_is_unlike_the_others_is_not_known_to_them() -> None:
    """Class and feature agree in two groups, and are opposed in the third."""
    rng = np.random.default_rng(0)
    labels, group = np.tile([0, 1], 60), np.repeat([0, 1, 2], 40)
    x = np.where(group == 2, 1 - 2 * labels, 2 * labels - 1)[:, None] + 0.1 * rng.standard_normal((120, 1))
    own = Attribute(("a", "b", "c"), group)
    found = groups.transfer([x.astype(np.float32)] * 2, [labels] * 2, [own, own])
    assert found.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_the_command(
    tmp_path: Path, fedloom_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, text = given_models.resnet(tmp_path / "resnet"), given_models.bert(tmp_path / "bert")
    changed = (
        f"clients.image=[{{arch: resnet, pretrained: {image}, tune: head}}]",
        f"clients.text=[{{arch: bert, pretrained: {text}, tune: head}}]",
        "data.options.size=16",
        "data.options.languages=[en, de]",
        "data.options.public_copies=1",
        "data.options.most=12",
    )
    words = [word for value in changed for word in ("--set", value)]
    monkeypatch.setattr(sys, "argv", ["groups.py", str(tmp_path / "made" / "groups.png"), *words])
    assert groups.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[3:]] == ["languages of names, en", "languages of names, de"]
    assert len(said[0].split(": ")[1].split(", ")) == 3
    assert (tmp_path / "made" / "groups.png").is_file()
    monkeypatch.setattr(sys, "argv", ["groups.py", "x.png", "--set", "data.options.styles=[blue]"])
    assert groups.main() == 2
    assert "blue" in capsys.readouterr().err
