"""The paper's byte formulas."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.errors import BadInput
from fedloom.metrics.communication import MB, METHODS, round_bytes

TABLE_X = {"samples": 100, "image_clients": 4, "text_clients": 4, "classes": 102, "width": 768}


@pytest.mark.parametrize(
    ("method", "up", "down", "mb_up", "mb_down"),
    [
        ("l-fedmmkt", 326_400, 5_014_400, 0.31, 4.78),
        ("fedmmkt", 2_464_000, 7_472_000, 2.35, 7.13),
        ("creamfl", 24_576_000, 49_152_000, 23.4, 46.9),
        ("fedmekt", 24_576_000, 24_576_000, 23.4, 23.4),
    ],
)
def test_table_x(method: str, up: int, down: int, mb_up: float, mb_down: float) -> None:
    got = round_bytes(method, **TABLE_X, public=1000)
    assert got == (up, down)
    digits = 2 if mb_up < 10 else 1
    assert round(got.up / MB, digits) == mb_up
    assert round(got.down / MB, digits) == mb_down


def test_u_fedmmkt() -> None:
    got = round_bytes("u-fedmmkt", 100, 4, 0, 102, 768)
    assert got == (2_460_800, 6_145_600)


def test_baselines_on_synthetic_samples() -> None:
    fedmd = round_bytes("fedmd", **TABLE_X)
    assert (fedmd.up / MB, fedmd.down / MB) == pytest.approx((0.311, 0.311 + 4.78), abs=2e-3)
    fedmekt, creamfl = (round_bytes(m, **TABLE_X) for m in ("fedmekt", "creamfl"))
    assert fedmekt.up == creamfl.up
    assert (fedmekt.up / MB, fedmekt.down / MB, creamfl.down / MB) == pytest.approx((2.344, 7.13, 9.47), abs=5e-3)


def test_logits_about_a_public_set() -> None:
    for method in ("fedmd", "fed-et", "fedgems"):
        assert round_bytes(method, **TABLE_X, public=1000) == (8 * 1000 * 102 * 4, 8 * 1000 * 102 * 4)


def test_order_of_methods_by_bytes() -> None:
    each = {m: round_bytes(m, **TABLE_X, public=1000) for m in ("l-fedmmkt", "fedmmkt", "fedmekt", "creamfl")}
    up, down = ([b[i] for b in each.values()] for i in (0, 1))
    assert up[0] < up[1] < up[2] == up[3]
    assert down == sorted(down)


@pytest.mark.parametrize("kept", [0, 1, 57, 100])
def test_kept_samples_and_their_mask(kept: int) -> None:
    """Against the length of the real payload: a bit mask, int32 labels, float32 representations, to each of 8."""
    payload = len(np.packbits(np.ones(100, bool)).tobytes())
    payload += np.zeros(kept, np.int32).nbytes + np.zeros((kept, 768), np.float32).nbytes
    data = 4 * np.zeros((100, 64, 64, 3), np.uint8).nbytes + 4 * 100 * 240
    assert round_bytes("fedmmkt", **TABLE_X, kept=kept).down == data + 8 * payload
    labels_only = len(np.packbits(np.ones(100, bool)).tobytes()) + np.zeros(kept, np.int32).nbytes
    assert round_bytes("l-fedmmkt", **TABLE_X, kept=kept).down == data + 8 * labels_only


def test_nothing_costs_nothing() -> None:
    for method in METHODS:
        assert round_bytes(method, 0, 2, 2, 10, 64, public=None) == (0, 0)
        assert round_bytes(method, 10, 0, 0, 10, 64) == (0, 0)


def test_bad_input_is_named() -> None:
    with pytest.raises(BadInput, match="Did you mean 'creamfl'"):
        round_bytes("creamf", **TABLE_X)
    with pytest.raises(BadInput, match="kept = 101"):
        round_bytes("fedmmkt", **TABLE_X, kept=101)
    with pytest.raises(BadInput, match="negative"):
        round_bytes("fedmmkt", -1, 1, 1, 2, 3)
