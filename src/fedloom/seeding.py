"""Named random streams: a draw depends on (seed, round, client, purpose), never on who drew before it.

So results are the same for any engine, any order of replies, and after a resume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called `names` (round, client, purpose ...) under `seed`."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "little") >> 1


def numpy_stream(seed: int, *names: object) -> np.random.Generator:
    """A NumPy generator for the stream called `names`."""
    return np.random.default_rng(stream_seed(seed, *names))


def torch_stream(seed: int, *names: object) -> torch.Generator:
    """A CPU torch generator for the stream called `names`."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, *names))


@contextmanager
def global_torch_stream(seed: int, *names: object) -> Iterator[None]:
    """Inside the block torch's global generator is the stream `names` (dropout, weight init); afterwards as before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        # manual_seed notes the stack for each kind of accelerator that there could be: milliseconds, and many calls
        seeded = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
        seeded(stream_seed(seed, *names))
        yield
