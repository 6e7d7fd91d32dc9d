"""Views of pictures and texts (eq. 33, and training)."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.augment import (
    colour_jitter,
    drop_tokens,
    random_crop_flip,
    shift_flip,
    simclr_views,
    turn_hue,
)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures() -> torch.Tensor:
    """(6, 3, 10, 12) in [-1, 1]."""
    return torch.rand(6, 3, 10, 12, generator=draws(9)) * 2 - 1


@pytest.mark.parametrize("view", [simclr_views, shift_flip, random_crop_flip])
def test_same_seed_same_views(view: Callable[..., torch.Tensor], pictures: torch.Tensor) -> None:
    before = pictures.clone()
    first, again, other = view(pictures, draws(1)), view(pictures, draws(1)), view(pictures, draws(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == pictures.shape
    assert first.min() >= -1 - 1e-6
    assert first.max() <= 1 + 1e-6
    assert torch.equal(pictures, before)
    assert view(pictures[:0], draws()).shape == (0, 3, 10, 12)


def test_views_do_not_depend_on_the_global_stream(pictures: torch.Tensor) -> None:
    torch.manual_seed(0)
    first = simclr_views(pictures, draws())
    torch.manual_seed(1)
    assert torch.equal(first, simclr_views(pictures, draws()))


def test_crop_of_everything_is_the_picture_or_its_mirror() -> None:
    """With scale 1 and a square aspect only the flip is left; aspect is drawn, so the sides may still shrink."""
    x = torch.linspace(-1, 1, 8).expand(40, 3, 8, 8).contiguous()
    got = random_crop_flip(x, draws(3), scale=(1.0, 1.0))
    rising = got[:, 0, 4, -1] > got[:, 0, 4, 0]
    assert 8 < int(rising.sum()) < 32  # mirrored half the time
    assert (got.diff(dim=3).abs() <= x.diff(dim=3).max() + 1e-6).all()  # a crop blown up is never steeper
    assert torch.allclose(got[:, :, :1], got)  # rows were equal and stay so


def test_crops_cover_the_asked_share_of_the_area() -> None:
    """On the picture (x, y) -> x and y, the range of values is the crop's sides."""
    side = torch.linspace(-1 + 1 / 64, 1 - 1 / 64, 64)
    x = torch.stack([side.expand(64, 64), side[:, None].expand(64, 64), torch.zeros(64, 64)])
    got = random_crop_flip(x.expand(300, 3, 64, 64), draws(4))
    sides = (got.amax((2, 3)) - got.amin((2, 3)))[:, :2] / 2  # less one output pixel each
    area = sides.prod(1)
    assert 0.17 < area.min() < 0.25
    assert 0.9 < area.max() <= 1.0
    aspect = sides[:, 0] / sides[:, 1]
    assert 0.7 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.45


def test_hue_against_colorsys() -> None:
    x = torch.rand(2, 3, 4, 5, generator=draws(5), dtype=torch.float64)
    x[0, :, 0, 0] = 0.5  # grey has no hue
    x[0, :, 0, 1] = torch.tensor([1.0, 0.0, 1.0])  # two channels share the maximum
    turn = torch.tensor([0.3, -0.7], dtype=torch.float64)[:, None, None]
    got = turn_hue(x, turn)
    for b in range(2):
        for i in range(4):
            for j in range(5):
                h, s, v = colorsys.rgb_to_hsv(*x[b, :, i, j].tolist())
                expected = colorsys.hsv_to_rgb((h + turn[b].item()) % 1.0, s, v)
                assert got[b, :, i, j].tolist() == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(turn_hue(x, torch.zeros(1, 1, 1)), x)


def test_jitter_without_strength_changes_nothing_and_stays_in_range() -> None:
    x = torch.rand(8, 3, 6, 6, generator=draws(6))
    torch.testing.assert_close(colour_jitter(x, draws(), 0, 0, 0, 0), x)
    strong = colour_jitter(x, draws(), 1.0, 1.0, 1.0, 0.5)
    assert strong.min() >= -1e-6
    assert strong.max() <= 1 + 1e-6


def test_brightness_is_one_factor_a_picture() -> None:
    x = torch.rand(5, 3, 6, 6, generator=draws(7)) * 0.5 + 0.1
    factor = colour_jitter(x, draws(8), 0.4, 0, 0, 0) / x
    assert (factor.amax((1, 2, 3)) - factor.amin((1, 2, 3))).max() < 1e-5
    assert factor.min() >= 0.6
    assert factor.max() <= 1.4
    assert factor[:, 0, 0, 0].unique().numel() == 5


def test_saturation_and_contrast_move_pixels_along_their_lines() -> None:
    x = torch.rand(1, 3, 6, 6, generator=draws(7)) * 0.4 + 0.3
    luma = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    grey = (x * luma).sum(1, keepdim=True)
    saturated, contrasted = colour_jitter(x, draws(), 0, 0, 0.4, 0), colour_jitter(x, draws(), 0, 0.4, 0, 0)
    torch.testing.assert_close((saturated * luma).sum(1, keepdim=True), grey)
    for moved, centre in ((saturated, grey), (contrasted, grey.mean())):
        factor = ((moved - centre) / (x - centre))[(x - centre).abs() > 0.02]
        assert factor.max() - factor.min() < 1e-3
        assert 0.6 <= factor.mean() <= 1.4


def test_about_a_fifth_turns_grey() -> None:
    x = torch.rand(400, 3, 4, 4, generator=draws(1)) * 2 - 1
    views = simclr_views(x, draws(2))
    share = ((views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-5).float().mean()
    assert 0.12 < share < 0.28
    # strength 0 leaves colours alone where no grey was drawn
    plain = simclr_views(x, draws(2), strength=0.0)
    crops = random_crop_flip(x, draws(2))
    assert ((plain - crops).abs().amax((1, 2, 3)) < 1e-5).float().mean() > 0.7
    with pytest.raises(BadInput, match="strength"):
        simclr_views(x, draws(), strength=2.0)


def test_shift_flip_moves_whole_pixels() -> None:
    x = torch.arange(7.0).expand(60, 3, 7, 7).contiguous()
    got = shift_flip(x, draws(1), shift=2)
    mirrored = got[:, 0, 0, 0] > got[:, 0, 0, -1]
    assert 15 < int(mirrored.sum()) < 45
    upright = torch.where(mirrored[:, None, None, None], got.flip(3), got)
    offset = upright[:, 0, 0, 3] - 3
    assert sorted(offset.unique().tolist()) == [-2, -1, 0, 1, 2]
    expected = (torch.arange(7.0) + offset[:, None]).clamp(0, 6)
    assert torch.equal(upright, expected[:, None, None, :].expand_as(upright))
    assert torch.equal(shift_flip(x, draws(), shift=0).sort(3).values, x)


def test_tokens_drop_inside_only() -> None:
    ids = torch.tensor([[1, 5, 6, 7, 2, 0, 0], [0, 0, 1, 5, 6, 7, 2], [1, 2, 0, 0, 0, 0, 0], [0] * 7])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0], [0] * 7])
    got = drop_tokens(ids, mask, 1.0, draws(), 99)
    assert got.tolist() == [
        [1, 99, 99, 99, 2, 0, 0],
        [0, 0, 1, 99, 99, 99, 2],
        [1, 2, 0, 0, 0, 0, 0],
        [0] * 7,
    ]
    assert torch.equal(drop_tokens(ids, mask, 0.0, draws(), 99), ids)
    assert torch.equal(drop_tokens(ids, mask.bool(), 1.0, draws(), 99), got)


def test_token_dropout_rate_and_seed() -> None:
    ids, mask = torch.ones(200, 52, dtype=torch.int64), torch.ones(200, 52, dtype=torch.int64)
    got = drop_tokens(ids, mask, 0.15, draws(3), 0)
    assert abs(int((got == 0).sum()) - 1500) < 4 * (1500 * 0.85) ** 0.5
    assert torch.equal(got, drop_tokens(ids, mask, 0.15, draws(3), 0))
    with pytest.raises(BadInput, match="token dropout"):
        drop_tokens(ids, mask, 1.2, draws(), 0)
    with pytest.raises(ValueError, match="mask"):
        drop_tokens(ids, mask[:3], 0.1, draws(), 0)
