"""Preference tuning of the generator: towards what clients recognised, away from what they did not, of one prompt.

Wallace et al.: Diffusion model alignment using direct preference optimization (arXiv 2311.12908), eq. 14: for the same
prompt, noise level and noise, the error on the accepted picture is to fall more, from what the untouched generator
has, than that on the refused one. Ours: who prefers is the clients' posterior, not a person; and pairs are drawn from
the pool of the last rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.methods.state import Kept, Stateful
from fedloom.methods.tuning import ReplayPool, Tuner
from fedloom.models.pictures import to_float


class Preferences(Stateful):
    """Pairs of pictures, and the loss on some of them.

    Args:
        strength: beta of eq. 14, times the levels that a sampler would pass.
        share: pairs of a step, over its synthetic samples.
        sure: probability of its prompt's class from which a picture is accepted; below 1 - `sure` it is refused.

    Raises:
        BadInput: the generator gives no errors of single pictures.
    """

    pool: Kept[ReplayPool]

    def __init__(self, tuner: Tuner, prompts: Sequence[str], *, strength: float, share: float, sure: float) -> None:
        if not hasattr(tuner.generator, "errors"):
            raise BadInput("settings.preference needs the embedded generator; allowed with this one: 0")
        self.pool = ReplayPool(tuner.settings.replay_rounds)
        self.tuner, self.prompts, self.strength, self.share, self.sure = tuner, prompts, strength, share, sure

    def add(self, images: NDArray[np.uint8], drawn: NDArray[np.int64], posterior: Tensor) -> None:
        """A round's pictures (S, H, W, 3), the classes (S,) of their prompts, what they are believed to be (S, C)."""
        right = posterior[torch.arange(len(drawn)), torch.from_numpy(drawn)]
        clear = (right >= self.sure) | (right <= 1 - self.sure)
        part = {"images": torch.from_numpy(images), "drawn": torch.from_numpy(drawn), "accepted": right >= self.sure}
        self.pool.add({key: value[clear] for key, value in part.items()})

    def loss(self, n: int, rng: np.random.Generator, draws: torch.Generator) -> Tensor:
        """The loss on `share` times n pairs, a scalar; 0 where no prompt has both kinds."""
        pairs = self._pairs(max(1, round(self.share * n)), rng)
        if pairs is None:
            return torch.zeros(())
        accepted, refused, texts = pairs
        seed = int(torch.randint(2**31, (1,), generator=draws))
        with torch.no_grad(), self.tuner.untouched():
            before = [self._errors(pictures, texts, seed) for pictures in (accepted, refused)]
        now = [self._errors(pictures, texts, seed) for pictures in (accepted, refused)]
        gain = (now[0] - before[0]) - (now[1] - before[1])  # (B,)
        return -F.logsigmoid(-self.strength * gain).mean()

    def _errors(self, pictures: Tensor, texts: Sequence[str], seed: int) -> Tensor:
        draws = torch.Generator().manual_seed(seed)  # both pictures get the same noise
        errors: Tensor = self.tuner.generator.errors(pictures, texts, draws)
        return errors

    def _pairs(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, list[str]] | None:
        """n accepted and n refused pictures float (n, 3, H, W), and their prompts."""
        pool: Any = self.pool.samples()
        if not pool:
            return None
        drawn, accepted = pool["drawn"].numpy(), pool["accepted"].numpy()
        kinds = [[np.flatnonzero((accepted == yes) & (drawn == c)) for yes in (True, False)] for c in np.unique(drawn)]
        both = [kind for kind in kinds if all(map(len, kind))]
        if not both:
            return None
        weights = np.array([len(refused) for _, refused in both], dtype=np.float64)
        chosen = [both[i] for i in rng.choice(len(both), n, p=weights / weights.sum())]
        index = np.array([[rng.choice(yes), rng.choice(no)] for yes, no in chosen])
        pixels = to_float(pool["images"].numpy()[index.T.ravel()])
        return pixels[:n], pixels[n:], [self.prompts[drawn[i]] for i in index[:, 0]]
