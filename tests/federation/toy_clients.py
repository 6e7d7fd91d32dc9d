"""Client halves of numpy alone, and the messages they know."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from fedloom.federation import Empty, Tensor, Tensors, WireContract
from fedloom.seeding import numpy_stream


@dataclass(frozen=True)
class Probe:
    images: Annotated[NDArray[Any], Tensor("uint8", ("S", 4, 4, 3))]


@dataclass(frozen=True)
class Opinion:
    representations: Annotated[NDArray[Any], Tensor("float32", ("S", "D"))]
    labels: Annotated[NDArray[Any], Tensor("int32", ("S",))]
    entropies: Annotated[NDArray[Any], Tensor("float32", ("S",))]


@dataclass(frozen=True)
class Everything:
    half: Annotated[NDArray[Any], Tensor(("float16", "float32"), ("N", "D"))]
    mask: Annotated[NDArray[Any], Tensor("bool", ("N",))]
    scalar: Annotated[NDArray[Any], Tensor("float64", ())]
    model: Annotated[Mapping[str, NDArray[Any]], Tensors(("float32", "int64"))]
    captions: tuple[str, ...]
    name: str
    count: int
    loss: float
    last: bool
    extra: Annotated[NDArray[Any], Tensor("int64", ("N",))] | None = None
    note: str | None = None
    noisy: Annotated[NDArray[Any] | None, Tensor("float32", ("K",), finite=False)] = None


@dataclass(frozen=True)
class Blob:
    data: Annotated[NDArray[Any], Tensor("uint8", ("N",))]


@dataclass(frozen=True)
class Wish:
    what: str
    seconds: float = 0.0


CONTRACT = WireContract(
    {
        "infer": (Probe, Opinion),
        "retrain": (Wish, Wish),
        "evaluate": (Empty, Wish),
        "echo": ((Blob, Empty), Blob),
        "rest": (Empty, Empty),
    }
)


class Toy:
    """Counts its calls, and does what a Wish says: raise, sleep, wait for a file, lie, print, or nothing."""

    def __init__(self, name: str, seed: int, width: int) -> None:
        self.name, self.seed, self.width = name, seed, width
        self.weights = np.zeros((3, width), np.float32)
        self.calls = 0

    def infer(self, message: Probe, round: int) -> Opinion:
        self.calls += 1
        draw = numpy_stream(self.seed, round, self.name, "infer").normal(size=(3, self.width))
        self.weights = self.weights + draw.astype(np.float32)
        pixels = message.images.mean(axis=(1, 2)).astype(np.float32)  # (S, 3)
        entropies = pixels.sum(axis=1)
        return Opinion(pixels @ self.weights, np.arange(len(pixels), dtype=np.int32), entropies)

    def retrain(self, message: Wish, round: int) -> Any:
        self.calls += 1
        if message.what in ("sleep", f"sleep {self.name}"):
            time.sleep(message.seconds)
        elif message.what.startswith(f"wait {self.name} "):
            while not Path(message.what.split(" ", 2)[2]).exists():
                time.sleep(0.02)
        elif message.what == f"raise {self.name}":
            raise RuntimeError("out of\nluck")
        elif message.what == f"lie {self.name}":
            return Empty()
        elif message.what == f"nan {self.name}":
            return Wish("", float("nan"))
        elif message.what == "print":
            print("not a frame")
            os.write(1, b"not a frame either\n")
        return Wish(f"{self.name} {round} {self.calls}", float(os.getpid()))

    def evaluate(self, message: Empty, round: int) -> Wish:
        return Wish(f"{self.name} {round} {self.calls} {self.weights.sum():.6f}")

    def echo(self, message: Blob | Empty, round: int) -> Blob:
        return message if isinstance(message, Blob) else Blob(np.zeros(0, np.uint8))

    def rest(self, message: Empty, round: int) -> Empty:
        return message

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {"weights": self.weights.T}, {"calls": self.calls}

    def load_state(self, tensors: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        self.weights, self.calls = tensors["weights"].T.copy(), meta["calls"]


def make(name: str, seed: int = 0, width: int = 5) -> Toy:
    return Toy(name, seed, width)


def broken(name: str) -> Toy:
    raise OSError(f"no model for {name}")


def slow(name: str, seconds: float) -> Toy:
    time.sleep(seconds)
    return make(name)


def once(name: str, marker: str) -> Toy:
    """Can be built only while `marker` exists."""
    if not Path(marker).exists():
        raise OSError("the model has gone")
    return make(name)


def limit_threads(threads: int) -> None:
    os.environ["TOY_THREADS"] = str(threads)
