"""Spaces turned onto one another."""

from __future__ import annotations

import torch

from fedloom.functional.spaces import common_space


def rotated(clients: int, n: int = 40, d: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    z = torch.randn(n, d)
    turns = torch.stack([torch.linalg.qr(torch.randn(d, d))[0] for _ in range(clients)])
    return z, z @ turns


def test_rotations_of_one_space_are_undone() -> None:
    _, turned = rotated(4)
    maps = common_space(turned, torch.ones(4, 40, dtype=torch.bool))
    eye = torch.eye(6).expand(4, 6, 6)
    torch.testing.assert_close(maps @ maps.mT, eye, rtol=0, atol=1e-5)
    common = turned @ maps
    centred = common - common.mean(1, keepdim=True)
    for other in centred[1:]:
        torch.testing.assert_close(other, centred[0], rtol=0, atol=1e-4)


def test_absent_rows_have_no_part() -> None:
    _, turned = rotated(3)
    present = torch.ones(3, 40, dtype=torch.bool)
    present[1, ::4] = False
    clean = common_space(turned, present)
    turned[1, ::4] = torch.nan
    assert torch.equal(common_space(turned, present), clean)
    present[2] = False
    assert torch.equal(common_space(turned, present)[2], torch.eye(6))


def test_one_client_stays_as_it_is() -> None:
    _, turned = rotated(1)
    assert torch.equal(common_space(turned, torch.ones(1, 40, dtype=torch.bool)), torch.eye(6)[None])
