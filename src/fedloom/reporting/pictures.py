"""Pictures made of samples: the grid, and what the vote did to the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput
from fedloom.reporting.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    VERMILLION,
    Pixels,
    Sheet,
    Target,
    resized,
    text_width,
)


def _checked(images: Pixels, what: str) -> Pixels:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise BadInput(f"{what}: images must be uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
    return images


def sample_grid(
    images: Pixels, titles: Sequence[str], path: Target, *, side: int = 96, title: str = ""
) -> tuple[int, int]:
    """A grid of pictures, one row a title; small pictures are enlarged pixel by pixel.

    Args:
        images: uint8 (n * per, H, W, 3), the pictures of the first title first; n = len(titles).
        titles: what stands at the left of each row: the class or the prompt.
        path: the PNG to write.
        side: about how many pixels a picture takes.
        title: a heading.

    Returns:
        Width and height of the PNG in pixels.

    Raises:
        BadInput: the number of pictures is no multiple of the number of titles.
    """
    images = _checked(images, "sample grid")
    n = len(titles)
    if not n or not len(images) or len(images) % n:
        raise BadInput(f"sample grid: {len(images)} images do not fill {n} rows evenly")
    tiles, per = resized(images, side), len(images) // n
    _, h, w, _ = tiles.shape
    gap, margin, head = 2, 8, 28 if title else 0
    left = margin + int(min(190, max(text_width(t, 8.5) for t in titles))) + 10
    sheet = Sheet(left + per * (w + gap) - gap + margin, head + 2 * margin + n * (h + gap) - gap)
    for row, name in enumerate(titles):
        y = head + margin + row * (h + gap)
        for column in range(per):
            sheet.paste(tiles[row * per + column], left + column * (w + gap), y)
        sheet.text(left - 10, y + h / 2, sheet.fit(name, 190, fontsize=8.5), ha="right", fontsize=8.5)
    if title:
        sheet.text(margin, margin + head / 2 - 2, title, fontsize=10.5, fontweight="bold")
    sheet.save(path)
    return sheet.width, sheet.height


def _spread(index: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> list[int]:
    """Up to `count` of `index`, one of each label before a second of any: nothing is picked for looks."""
    seen: dict[int, int] = {}
    ranked = []
    for position, i in enumerate(index):
        turn = seen[int(labels[i])] = seen.get(int(labels[i]), -1) + 1
        ranked.append((turn, position, int(i)))
    return [i for _, _, i in sorted(ranked)[:count]]


def _framed(sheet: Sheet, tile: Pixels, x: int, y: int, colour: str) -> None:
    """A picture with a frame around it."""
    sheet.paste(tile, x, y)
    sheet.frame(x, y, tile.shape[1], tile.shape[0], colour)


def label_panel(
    images: Pixels,
    drawn: ArrayLike,
    voted: ArrayLike,
    kept: ArrayLike,
    judge: ArrayLike | None,
    class_names: Sequence[str],
    path: Target,
    *,
    per_row: int = 8,
    side: int = 96,
) -> tuple[int, int]:
    """What the vote did to the labels: a row each of corrected, confirmed and dropped pictures.

    The label that the generator was asked for is struck through where the vote replaced it. Pictures are taken in
    order, spread over the classes, whether the vote was right or not; a judge's tick or cross says so beside the label.

    Args:
        images: uint8 (M, H, W, 3).
        drawn, voted: class numbers (M,) that the prompt named, and that the clients voted for.
        kept: booleans (M,): the votes were enough to keep the picture.
        judge: class numbers (M,) by an independent classifier, or None.

    Returns: width and height of the PNG in pixels. Raises: BadInput where the arguments disagree in length.
    """
    images = _checked(images, "label panel")
    votes = _Votes.of(len(images), drawn, voted, kept, judge)
    agreed = votes.voted == votes.drawn
    groups = (
        ("Corrected", "the vote replaced the label", votes.kept & ~agreed, GREEN),
        ("Confirmed", "the vote agreed with the label", votes.kept & agreed, BLUE),
        ("Dropped", "too few votes, not trained on", ~votes.kept, VERMILLION),
    )
    tiles = resized(images, side) if len(images) else np.zeros((0, side, side, 3), np.uint8)
    _, h, w, _ = tiles.shape
    cell, margin, head, foot = max(w, 100) + 14, 14, 34, 50
    sheet = Sheet(2 * margin + per_row * cell, 2 * margin + len(groups) * (head + h + foot))
    for row, (name, meaning, member, colour) in enumerate(groups):
        y = margin + row * (head + h + foot)
        chosen = np.flatnonzero(member)
        sheet.text(margin, y + 12, name, fontsize=10.5, fontweight="bold", color=colour)
        note = f"{meaning}: {len(chosen)} of {len(images)}{votes.judged(chosen)}"
        sheet.text(margin + text_width(name, 10.5, "bold") + 10, y + 12, note, fontsize=8.5, color=MUTED)
        for column, i in enumerate(_spread(chosen, votes.drawn, per_row)):
            x = margin + column * cell + (cell - w) // 2
            _framed(sheet, tiles[i], x, y + head, colour)
            _captions(sheet, x + w / 2, y + head + h, cell - 6, class_names, votes, i)
    sheet.save(path)
    return sheet.width, sheet.height


@dataclass(frozen=True)
class _Votes:
    """The labels of M pictures: as drawn, as voted (M,), whether kept (M,), and the judge's (M,) or None."""

    drawn: NDArray[np.int64]
    voted: NDArray[np.int64]
    kept: NDArray[np.bool_]
    judge: NDArray[np.int64] | None

    @classmethod
    def of(cls, n: int, drawn: ArrayLike, voted: ArrayLike, kept: ArrayLike, judge: ArrayLike | None) -> _Votes:
        """The arguments as arrays, each of length `n`."""
        truth = None if judge is None else np.asarray(judge, np.int64)
        votes = cls(np.asarray(drawn, np.int64), np.asarray(voted, np.int64), np.asarray(kept, bool), truth)
        for name, array in vars(votes).items():
            if array is not None and array.shape != (n,):
                raise BadInput(f"label panel: {n} images but {name} has shape {array.shape}")
        return votes

    def judged(self, chosen: NDArray[np.int64]) -> str:
        """What the judge says of some pictures, as the end of a sentence."""
        if self.judge is None or not len(chosen):
            return ""
        vote = (self.voted == self.judge)[chosen].mean()
        label = (self.drawn == self.judge)[chosen].mean()
        text = f"; the judge agrees with the vote in {vote:.0%}"
        same = (self.voted == self.drawn)[chosen].all()
        return text if same else f"{text}, with the drawn label in {label:.0%}"


def _captions(sheet: Sheet, x: float, y: float, room: float, names: Sequence[str], votes: _Votes, i: int) -> None:
    """The lines under picture `i`, centred at `x` below `y`: the drawn label, and the vote if it differs."""
    drawn, voted = int(votes.drawn[i]), int(votes.voted[i])
    right = None if votes.judge is None else voted == int(votes.judge[i])
    verdict = "" if right is None else " ✓" if right else " ✗"

    def name(label: int, space: float) -> str:
        return sheet.fit(names[label] if 0 <= label < len(names) else f"class {label}", space)

    if votes.kept[i] and drawn != voted:
        sheet.text(x, y + 14, name(drawn, room), ha="center", color=VERMILLION, struck=True)
        colour = INK if right is False else GREEN
        sheet.text(x, y + 29, name(voted, room - 18) + verdict, ha="center", color=colour, fontweight="bold")
    elif votes.kept[i]:
        sheet.text(x, y + 14, name(drawn, room - 18) + verdict, ha="center", color=BLUE, fontweight="bold")
    else:
        sheet.text(x, y + 14, name(drawn, room), ha="center", color=MUTED)
        if drawn != voted:
            text = f"vote: {name(voted, room - 50)}{verdict}"
            sheet.text(x, y + 29, text, ha="center", color=MUTED, fontsize=7.5)
