"""A loss in parts is that of the whole, with its gradients, and the same bits on one processor and on two."""

import pytest
import torch
from torch import nn

from fedloom.models.loss_in_parts import mean_in_parts


def gradients(samples: int) -> tuple[float, float, list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(0)
    net, unused = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)), nn.Parameter(torch.ones(2))
    x, heard, mask = torch.randn(samples, 3), torch.randn(samples, 3, requires_grad=True), torch.rand(samples) > 0.5

    def loss(x: torch.Tensor, heard: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (net(torch.cat([x, heard], 1)).square().sum(1) * (1 + mask)).mean()

    weights = [*net.parameters(), unused]
    whole, parts = loss(x, heard, mask), mean_in_parts(loss, (x, heard, mask), weights)
    leaves = [heard, *net.parameters()]
    return whole.item(), parts.item(), *(list(torch.autograd.grad(3 * v, leaves)) for v in (whole, parts))  # type: ignore[return-value]


@pytest.mark.parametrize("samples", [4, 16, 17, 33])
def test_it_is_the_loss_of_the_whole(samples: int) -> None:
    whole, parts, expected, found = gradients(samples)
    assert parts == pytest.approx(whole, rel=1e-6)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_number_of_processors_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for processors in "12":
        monkeypatch.setenv("OMP_NUM_THREADS", processors)
        results.append(gradients(33))
    assert results[0][1] == results[1][1]
    assert all(torch.equal(a, b) for a, b in zip(results[0][3], results[1][3]))


def test_without_gradients_it_is_plain() -> None:
    with torch.no_grad():
        value = mean_in_parts(lambda x: x.mean(), (torch.arange(40.0),), [nn.Parameter(torch.ones(1))])
    assert value.item() == 19.5
    assert not value.requires_grad
