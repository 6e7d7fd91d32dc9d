"""Words for pictures that come without text, and which words of a set of captions tell its pictures apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PALETTE = {
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (190, 40, 40),
    "orange": (225, 125, 40),
    "yellow": (235, 210, 70),
    "brown": (115, 75, 45),
    "cream": (230, 210, 170),
    "green": (80, 140, 60),
    "blue": (60, 100, 200),
    "purple": (130, 60, 160),
    "pink": (235, 150, 180),
}
# Words are runs of letters of any script; where words are written without blanks between them, single characters.
LETTERS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\d_]+")


def words_in(text: str) -> set[str]:
    """The words of a text, in lower case."""
    return set(LETTERS.findall(text.lower()))


def telling_words(captions: Sequence[str], most: int = 400) -> list[str]:
    """The words that 1 to 70 captions of a hundred hold, sorted; none where all captions say the same."""
    counts = Counter(word for caption in captions for word in words_in(caption))
    n = len(captions)
    often = sorted(counts, key=lambda word: (-counts[word], word))  # sets have no order to break ties by
    return sorted([word for word in often if 0.01 * n <= counts[word] <= 0.7 * n][:most])


def colour_caption(image: NDArray[np.uint8]) -> str:
    """A picture's colours in words, where there is no text: `a dark picture, mostly brown and cream`."""
    pixels = image[::2, ::2].reshape(-1, 3).astype(np.int64)
    colours = np.array(list(PALETTE.values()))
    nearest = ((pixels[:, None] - colours[None]) ** 2).sum(-1).argmin(1)
    order = np.argsort(-np.bincount(nearest, minlength=len(colours)), kind="stable")
    first, second = (list(PALETTE)[i] for i in order[:2])
    light = "dark" if pixels.mean() < 85 else "bright" if pixels.mean() > 170 else "soft"
    return f"a {light} picture, mostly {first} and {second}"


def light_captions(images: NDArray[np.uint8]) -> list[str]:
    """Where pictures (N, H, W, 3) are light, and how much goes on in them, each against the middle one of the set.

    For pictures of one colour scheme, such as scans, spectrograms or documents, whose colours tell nothing.
    """
    grey = images.mean(axis=3)  # (N, H, W)
    _, height, width = grey.shape
    inner = grey[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
    measures = {
        ("light", "dark"): grey.mean((1, 2)),
        ("strong", "faint"): grey.std((1, 2)),
        ("above", "below"): grey[:, : height // 2].mean((1, 2)) - grey[:, height - height // 2 :].mean((1, 2)),
        ("left", "right"): grey[:, :, : width // 2].mean((1, 2)) - grey[:, :, width - width // 2 :].mean((1, 2)),
        ("inside", "outside"): inner.mean((1, 2)) - grey.mean((1, 2)),
        ("fine", "coarse"): np.abs(np.diff(grey, axis=1)).mean((1, 2)) + np.abs(np.diff(grey, axis=2)).mean((1, 2)),
    }
    said = [np.where(value > np.median(value), *words) for words, value in measures.items()]
    form = "a {} picture of {} contrast, lighter {}, {} and {}, with {} detail"
    return [form.format(*words) for words in zip(*said)]
