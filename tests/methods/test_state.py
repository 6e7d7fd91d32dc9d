"""What survives a crash: declared, saved, loaded; of every method."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from toy_sites import CLIENTS, ONE_EACH, PAIRED, QUICK, Toy, same

from fedloom.errors import BadInput, FedloomError
from fedloom.methods.catalogue import CATALOGUE
from fedloom.methods.state import Kept, Stateful, read_state, write_state
from fedloom.models.pictures import to_float

SERVER_ONLY = ("centralised", "self-finetune")
METHODS = [name for name in CATALOGUE if name in QUICK and name not in SERVER_ONLY]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Point:
    """An array and a number."""

    values: NDArray[np.int32]
    size: int


class Part(Stateful):
    """A part with a state of its own, of which something else follows."""

    number: Kept[int]

    def __init__(self, number: int) -> None:
        self.number, self.double = number, 2 * number

    def restored(self) -> None:
        self.double = 2 * self.number


class Whole(Stateful):
    """One of each."""

    array: Kept[NDArray[np.float64] | None]
    tensors: Kept[dict[str, Tensor]]
    nested: Kept[dict[str, dict[int, NDArray[np.float32]]]]
    colours: Kept[dict[Colour, float]]
    names: Kept[tuple[str, ...]]
    pair: Kept[tuple[int, Tensor]]
    holders: Kept[set[str]]
    recent: Kept[deque[list[int]]]
    points: Kept[dict[str, Point]]
    share: Kept[float | None]
    flag: Kept[bool]
    layer: Kept[nn.Linear]
    late: Kept[nn.Linear | None]
    optimizer: Kept[torch.optim.AdamW]
    part: Kept[Part]
    parts: Kept[dict[Colour, Part]]

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.array, self.tensors, self.nested, self.colours = None, {}, {}, {}
        self.names, self.pair, self.holders, self.recent = (), (0, torch.zeros(1)), set(), deque(maxlen=2)
        self.points, self.share, self.flag, self.late = {}, None, False, None
        self.layer, self.part = nn.Linear(3, 2), Part(seed)
        self.optimizer = torch.optim.AdamW(self.layer.parameters())
        self.parts = {c: Part(seed) for c in Colour}

    def rebuild(self, attribute: str) -> nn.Linear:
        return nn.Linear(2, 2)

    def live(self) -> None:
        self.array, self.share, self.flag = np.arange(3.0), 0.1 + 0.2, True
        self.tensors = {"a.b": torch.randn(2, 3), "scalar": torch.tensor(4)}
        self.nested = {"x.y": {3: np.ones(2, np.float32), 1: np.zeros(2, np.float32)}, "x": {}}
        self.colours, self.names, self.pair = (
            {Colour.BLUE: float("nan"), Colour.RED: 1e-17},
            ("é", ""),
            (7, torch.ones(2)),
        )
        self.holders, self.points = {"b", "a"}, {"p": Point(np.array([1, 2], np.int32), 2)}
        self.recent.extend([[1], [2, 3], []])
        self.late, self.part.number = nn.Linear(2, 2), 12
        self.parts[Colour.RED].number = 5
        self.layer(torch.randn(4, 3)).sum().backward()
        self.optimizer.step()


def test_what_is_declared_is_saved_and_loaded(tmp_path):
    one, two = Whole(1), Whole(2)
    one.live()
    write_state(one.state(), tmp_path / "state")
    held = two.layer, two.optimizer, two.part, two.parts[Colour.RED]
    two.load_state(*read_state(tmp_path / "state"))
    assert held == (two.layer, two.optimizer, two.part, two.parts[Colour.RED])  # loaded in place
    assert same(one.state()[0], two.state()[0])
    assert str(one.state()[1]) == str(two.state()[1])  # NaN is not equal to itself
    assert (two.share, two.flag, two.names, two.holders) == (0.1 + 0.2, True, ("é", ""), {"a", "b"})
    assert list(two.nested["x.y"]) == [3, 1]
    assert all(isinstance(k, Colour) for k in [*two.colours, *two.parts])
    assert (two.recent, two.recent.maxlen) == (deque([[2, 3], []]), 2)
    assert two.points["p"].values.dtype == np.int32
    assert (two.part.double, two.parts[Colour.RED].double, two.parts[Colour.BLUE].double) == (24, 10, 2)


def test_a_state_is_not_moved_by_what_comes_after():
    whole = Whole(1)
    whole.live()
    before = whole.state()[0]
    kept = {k: v.copy() for k, v in before.items()}
    whole.pair[1].add_(1)
    whole.layer.weight.data.add_(1)
    whole.array += 1
    assert same(before, kept)


def test_kept_pictures_give_a_convolution_the_same_bits():
    """A convolution's last bits depend on how its input lies in memory, and a saved array has lost that."""
    one, two = Whole(1), Whole(1)
    shown = to_float(np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8))
    one.tensors = {"pixel_values": shown, "plain": torch.zeros(5, 3, 24, 24)}
    two.load_state(*one.state())
    again = two.tensors["pixel_values"]
    assert again.stride() == shown.stride() != torch.zeros(shown.shape).stride()
    assert two.tensors["plain"].is_contiguous()
    picked = torch.tensor([3, 0])
    assert again[picked].stride() == shown[picked].stride()
    with torch.no_grad():
        layer = nn.Conv2d(3, 16, 7, stride=2, padding=3)
        assert torch.equal(layer(again), layer(shown))


@pytest.mark.parametrize(
    "kind", [object, Tensor | NDArray[np.int32], dict[str, object], list, dict[Tensor, int], bytes]
)
def test_what_cannot_be_saved_fails_at_construction(kind):
    class Odd(Stateful):
        good: Kept[int]

    Odd.__annotations__["thing"] = Kept[kind]
    with pytest.raises(FedloomError, match=r"Odd\.thing: state of type .* cannot be saved; allowed: tensors, "):
        Odd()


def test_a_key_that_would_make_two_names_alike_is_refused():
    whole = Whole(1)
    whole.tensors = {"a/b": torch.zeros(1)}
    with pytest.raises(FedloomError, match="state 'tensors' has the key 'a/b'"):
        whole.state()


def test_the_state_of_another_version_is_refused(monkeypatch):
    """Of a class from outside it is its own file that has changed, and not fedloom."""
    with pytest.raises(BadInput, match=f"^the saved state of Part lacks number: {__file__} has changed since"):
        Part(1).load_state({}, {})
    with pytest.raises(BadInput, match="of Part lacks number and holds count, no longer declared: "):
        Part(1).load_state({}, {"count": 1})
    monkeypatch.setattr(Part, "__module__", "fedloom.methods.base")
    with pytest.raises(FedloomError, match="of Part holds nothing, expected number: another version of fedloom") as old:
        Part(1).load_state({}, {})
    assert not isinstance(old.value, BadInput)


def test_what_is_not_built_yet_and_cannot_be_is_named():
    class Late(Stateful):
        layer: Kept[nn.Linear | None] = None

    saved = Late()
    saved.layer = nn.Linear(1, 1)
    with pytest.raises(FedloomError, match="holds 'layer', which is not there to load"):
        Late().load_state(*saved.state())


@pytest.mark.parametrize("method", METHODS)
def test_every_methods_state_makes_a_round_trip(method, tiny_generator, tmp_path):
    clients = ONE_EACH if method in PAIRED else CLIENTS
    one, two = (Toy(None if method in PAIRED else tiny_generator, method, clients=clients) for _ in range(2))
    one.run(1)
    for name, half, other in [("server", one.server, two.server)] + [(k, one.half(k), two.half(k)) for k in clients]:
        write_state(half.state(), tmp_path / name)
        other.load_state(*read_state(tmp_path / name))
        assert same(half.state()[0], other.state()[0]), name
        assert half.state()[1] == other.state()[1], name
