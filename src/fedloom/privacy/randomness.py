"""Random numbers that nobody else can compute: for noise at a real silo.

In a run on one machine all noise is of named streams, so that it can be repeated. A server knows the run's seed: at a
silo that noise would hide nothing. torch's generator is no cryptographic one, and takes 32 bits of a seed: here its
whole state is drawn.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_HEAD = 24  # bytes of torch's state before the 624 words, of 8 bytes each
_LEFT = 8  # where the number of unused words stands, int32


@contextmanager
def secret_torch_stream() -> Iterator[None]:
    """Inside the block torch's global generators are drawn anew from the system; afterwards the CPU's is as before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(secrets.randbits(63))
        torch.set_rng_state(torch.from_numpy(mersenne_state(np.frombuffer(secrets.token_bytes(4 * 624), np.uint32))))
        yield


def mersenne_state(words: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """torch's state, uint8, with these 624 words (uint32), none of them used yet."""
    import torch

    state = torch.Generator().manual_seed(0).get_state().numpy().copy()
    state[_HEAD : _HEAD + 8 * 624] = words.astype(np.uint64).view(np.uint8)
    state[_LEFT : _LEFT + 4] = np.array([1], np.int32).view(np.uint8)  # the next draw begins a block of 624
    return state
