"""The pretended accelerator itself: it refuses what a GPU refuses, and else gives the CPU's numbers to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretend import DEVICE, OTHER, Pretended, pretended

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _pretended() -> Iterator[None]:
    with pretended():
        yield


def there(*shape: int, device: str = DEVICE) -> Tensor:
    return torch.arange(float(torch.Size(shape).numel())).view(shape).to(device)


REFUSED: dict[str, tuple[type[Exception], str, Callable[[Tensor], Any]]] = {
    "sum with the CPU": (RuntimeError, "same device", lambda t: t + torch.ones(2, 3)),
    "sum of two devices": (RuntimeError, "same device", lambda t: t + t.to(OTHER)),
    "scalar of the other device": (RuntimeError, "same device", lambda t: t + torch.ones((), device=OTHER)),
    "cat": (RuntimeError, "same device", lambda t: torch.cat([t, torch.ones(2, 3)])),
    "product": (RuntimeError, "same device", lambda t: t @ torch.ones(3, 2)),
    "in place": (RuntimeError, "same device", lambda t: torch.ones(2, 3).add_(t)),
    "labels on the CPU": (RuntimeError, "same device", lambda t: F.cross_entropy(t, torch.tensor([0, 1]))),
    "words on the CPU": (RuntimeError, "same device", lambda t: F.embedding(torch.tensor([0]), t)),
    "indices of a CPU tensor": (RuntimeError, "indices", lambda t: torch.ones(3)[t[0].long()]),
    "index_select": (RuntimeError, "same device", lambda t: t.index_select(0, torch.tensor([1]))),
    "numpy": (TypeError, "can't convert", lambda t: t.numpy()),
    "asarray": (TypeError, "can't convert", lambda t: np.asarray(t)),
    "CPU generator": (RuntimeError, "for generator", lambda t: t.new_empty(2).uniform_(generator=torch.Generator())),
    "its generator on the CPU": (RuntimeError, "generator", lambda t: torch.rand(2, generator=torch.Generator(DEVICE))),
    "factory": (RuntimeError, "generator", lambda t: torch.randn(2, device=DEVICE, generator=torch.Generator())),
    "a third device": (RuntimeError, "invalid device", lambda t: torch.zeros(1, device="lazy:2")),
}  # fmt: skip

ALLOWED: dict[str, Callable[[Tensor], Any]] = {
    "scalar of the CPU": lambda t: t * torch.tensor(3.0),
    "clamp by one": lambda t: t.clamp(min=torch.tensor(1.0)),
    "CPU indices": lambda t: t[torch.tensor([1])],
    "CPU mask": lambda t: t[torch.tensor([True, False])],
    "device indices": lambda t: t[torch.tensor([1], device=t.device)],
    "where": lambda t: torch.where(t > 1, t, 0.0),
    "factories": lambda t: t + torch.tensor([1.0, 2, 3], device=t.device) + torch.ones_like(t) + t.new_full((3,), 2),
    "generator": lambda t: torch.rand(3, device=t.device, generator=torch.Generator(t.device).manual_seed(3)),
    "one_hot": lambda t: F.one_hot(t.long(), 7),
    "inference": lambda t: torch.inference_mode()(lambda: t.exp())(),
    "attention": lambda t: F.scaled_dot_product_attention(*3 * [t.view(1, 1, 2, 3)]),
    "out": lambda t: torch.mm(t, t.T, out=torch.empty(2, 2, device=t.device)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_gpu_refuses(name: str) -> None:
    error, said, tried = REFUSED[name]
    with pytest.raises(error, match=said):
        tried(there(2, 3))


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_gpu_allows(name: str) -> None:
    found = ALLOWED[name](there(2, 3))
    assert isinstance(found, Pretended)
    assert str(found.device) == DEVICE
    assert torch.equal(found.cpu(), ALLOWED[name](there(2, 3, device="cpu")))


def test_ways_back_to_the_cpu() -> None:
    t = there(2, 3)
    assert type(t.cpu()) is Tensor
    assert type(t.to("cpu")) is Tensor
    assert t.cpu().device.type == "cpu"
    assert t.sum().item() == 15.0
    assert float(t[1, 2]) == 5.0
    assert t.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert torch.equal(torch.zeros(2, 3).copy_(t), t.cpu())
    assert type(torch.zeros_like(t, device="cpu")) is Tensor


def test_views_share_their_numbers() -> None:
    t = there(2, 3)
    t[0].mul_(10)
    t.view(-1)[5] = 7.0
    assert t.tolist() == [[0, 10, 20], [3, 4, 7]]


def test_a_moved_module_keeps_its_parameters() -> None:
    module = nn.Linear(3, 2)
    module.tied = module.weight
    weight, before = module.weight, module.weight.detach().clone()
    module.to(DEVICE)
    assert module.weight is weight
    assert module.tied is weight
    assert isinstance(weight, nn.Parameter)
    assert str(weight.device) == DEVICE
    assert torch.equal(weight.cpu(), before)
    twin = copy.deepcopy(module)
    twin.load_state_dict({name: value.cpu() + 1 for name, value in module.state_dict().items()})
    assert str(twin.weight.device) == DEVICE
    assert torch.equal(twin.weight.cpu(), before + 1)
    module.cpu()
    assert module.weight is weight
    assert type(weight) is nn.Parameter
    assert torch.equal(weight, before)


@pytest.mark.parametrize("optimizer", ["AdamW", "fused AdamW", "SGD"])
def test_a_step_of_the_optimizer_gives_the_cpus_bits(optimizer: str) -> None:
    on_cpu = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))
    on_device = copy.deepcopy(on_cpu)
    x = torch.randn(5, 4)
    for module, batch in ((on_cpu, x), (on_device, x.to(DEVICE))):
        if optimizer == "SGD":
            step: torch.optim.Optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
        else:
            step = torch.optim.AdamW(module.parameters(), fused=optimizer.startswith("fused"))
        module.to(batch.device)
        for _ in range(2):
            step.zero_grad()
            module(batch).square().mean().backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.01)
            step.step()
    for one, two in zip(on_cpu.parameters(), on_device.parameters(), strict=True):
        assert str(two.device) == DEVICE
        assert torch.equal(one, two.cpu())


def test_two_devices_in_one_backward_pass() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    whole = copy.deepcopy(nn.Sequential(first, second))
    second.to(OTHER)(first.to(DEVICE)(there(2, 3)).to(OTHER)).sum().backward()
    whole(there(2, 3, device="cpu")).sum().backward()
    assert str(first.weight.grad.device) == DEVICE
    assert str(second.weight.grad.device) == OTHER
    norm = nn.utils.clip_grad_norm_([*first.parameters(), *second.parameters()], 1.0)
    # squares are added up device by device: another order
    assert norm.item() == pytest.approx(nn.utils.clip_grad_norm_(whole.parameters(), 1.0).item(), rel=1e-6)
    torch.testing.assert_close(first.weight.grad.cpu(), whole[0].weight.grad)


def test_autocast_lowers_products_and_only_inside() -> None:
    module = nn.Linear(3, 2).to(DEVICE)
    with torch.autocast("lazy", torch.bfloat16):
        low = module(there(2, 3))
        assert low.dtype == torch.bfloat16
        assert low.softmax(-1).dtype == torch.float32
        with torch.autocast("lazy", enabled=False):
            assert module(there(2, 3)).dtype == torch.float32
    low.sum().backward()
    assert module.weight.grad.dtype == torch.float32
    assert module(there(2, 3)).dtype == torch.float32


def test_checkpointing() -> None:
    from torch.utils.checkpoint import checkpoint

    module, x = nn.Linear(3, 2).to(DEVICE), there(2, 3)
    checkpoint(module, x, use_reentrant=False).sum().backward()
    assert torch.equal(module.weight.grad.cpu(), x.cpu().sum(0).expand(2, 3))


def vision() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3))
    return model, {"pixel_values": torch.randn(4, 3, 16, 16)}


def text() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(**sizes, vocab_size=50, num_labels=3))
    mask = torch.arange(7) < torch.tensor([[3], [7], [5], [6]])
    return model, {"input_ids": torch.randint(0, 50, (4, 7)), "attention_mask": mask.long()}


@pytest.mark.parametrize("made", [vision, text])
def test_a_transformer_trains_to_the_cpus_bits(
    made: Callable[[], tuple[nn.Module, dict[str, Tensor]]],
) -> None:
    torch.manual_seed(0)
    on_cpu, batch = made()
    on_device, labels, logits = copy.deepcopy(on_cpu).to(DEVICE), torch.tensor([0, 1, 2, 0]), []
    for model, device in ((on_cpu, "cpu"), (on_device, DEVICE)):
        torch.manual_seed(1)
        inputs = {name: value.to(device) for name, value in batch.items()}
        optimizer = torch.optim.AdamW(model.train().parameters())
        for _ in range(2):
            optimizer.zero_grad()
            out = model(**inputs, labels=labels.to(device))
            out.loss.backward()
            optimizer.step()
        logits.append(out.logits.detach().cpu())
    assert torch.equal(*logits)
    for one, two in zip(on_cpu.parameters(), on_device.parameters(), strict=True):
        assert torch.equal(one, two.cpu())


def test_meta_stays_meta() -> None:
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    assert type(module.weight) is nn.Parameter
    assert module.weight.device.type == "meta"
    assert str(module.to_empty(device=DEVICE).weight.device) == DEVICE


def test_nothing_is_left_behind() -> None:
    """Within the fixture's context another one opens and ends; the fixture's still holds."""
    with pretended():
        pass
    assert str(torch.zeros(1, device=DEVICE).device) == DEVICE
