"""Pictures between storage and models, and through a crash."""

from __future__ import annotations

import numpy as np
import torch

from fedloom.models.pictures import from_kept, to_float


def test_kept_pictures_give_a_convolution_the_same_bits():
    """A convolution's last bits depend on how its input lies in memory, and a saved array has lost that."""
    shown = to_float(np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8))
    saved = np.ascontiguousarray(shown.numpy())
    again = from_kept("pixel_values", saved)
    assert again.stride() == shown.stride() != torch.from_numpy(saved).stride()
    picked = torch.tensor([3, 0])
    assert again[picked].stride() == shown[picked].stride()
    with torch.no_grad():
        layer = torch.nn.Conv2d(3, 16, 7, stride=2, padding=3)
        assert torch.equal(layer(again), layer(shown))


def test_other_arrays_stay_as_they_are():
    stored = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    kept = from_kept("images", stored)
    assert kept.is_contiguous()
    assert kept.dtype == torch.uint8
    kept[0] = 0
    assert stored.any(axis=(1, 2, 3)).all()  # a copy
