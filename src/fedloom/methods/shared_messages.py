"""What crosses the wire in the methods that learn from shared samples, and what can be set in all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from fedloom.config.models import Frozen
from fedloom.federation.messages import MOST_CLASSES, Count
from fedloom.federation.messages import Tensor as Wire
from fedloom.methods.robust import RobustSettings
from fedloom.methods.workload import Workload

Array = NDArray[Any]


class TuningSettings(Frozen):
    """How the generator is tuned, and how much of everything a round takes."""

    samples: int = Field(150, ge=1, description="S, synthetic samples a round")
    drawn_by: Literal["untouched", "tuned"] = Field(
        "untouched", description="the generator that draws them: as it was before round 1, or as tuned so far"
    )
    draw_steps: int | None = Field(
        None,
        ge=1,
        description="sampling steps they are drawn in; null: three times the embedded generator's, "
        "or what another generator always takes",
    )
    replay_rounds: int = Field(6, ge=1, description="rounds whose kept samples are trained on; 1: this round's only")
    private_steps: int = Field(10, ge=0, description="client steps on private data a round (E_loc)")
    tune_steps: int = Field(80, ge=0, description="generator steps a round (E_T2I)")
    tune_batch: int = Field(24, ge=1, description="samples of a generator step, public ones among them")
    tune_accumulate: int = Field(
        1, ge=1, description="parts that a batch of them is computed in: less memory, the same step"
    )
    tune_rate: float = Field(
        1e-3, gt=0, allow_inf_nan=False, description="Adam's rate, cosine-annealed over all rounds"
    )
    passes: int = Field(
        20,
        ge=1,
        description="most passes over the pool a round, whatever the steps: few samples are not overlearned",
    )
    condition: Literal["add", "token", "pooled"] = Field("add", description="how R joins the text, eq. 11")
    omit: float = Field(0.5, ge=0, le=1, description="p, share of samples whose R is left out, eq. 12; 1 is -T2I_Rep")
    heard: Literal["fused", "within-class"] = Field(
        "within-class", description="R less its class's mean, so that the text alone says the class; or all of R"
    )
    drop_text: float = Field(0.1, ge=0, lt=1, description="share of samples with empty text (guidance)")
    train_text: Literal["prompt", "caption", "both"] = Field("prompt", description="text the generator is tuned on")
    # What keeps the generator as wide as it was: its own pictures are narrower than those it has learned from.
    public_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of each batch that is public pictures under their captions, names unsaid; null: half, where "
        "the data has a public part",
    )
    pull: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="decay towards the untouched generator's weights, as AdamW's is to zero",
    )
    lora_rank: int = Field(0, ge=0, description="tune LoRA factors of this rank on the attention only; 0: all of it")
    bridge_rate: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="rate of W_r, by which the generator hears R, over tune_rate"
    )

    def workload(self) -> Workload:
        """A round of synthesis, of tuning on the pool, and of private steps."""
        steps = self.steps_on(self.samples * self.replay_rounds, self.tune_steps, self.tune_batch)
        return Workload(
            private_steps=self.private_steps,
            synthetic=self.samples,
            sampling_steps=self.draw_steps,
            captions=self.train_text != "prompt",
            generator_steps=steps,
            generator_batch=self.tune_batch,
            untouched=self.keeps_origin,
        )

    @property
    def keeps_origin(self) -> bool:
        """Whether the generator's weights of before round 1 are needed later."""
        return bool(self.pull) or self.drawn_by == "untouched"

    def tools(self, *names: str) -> frozenset[str]:
        """`names`, and the public pictures where batches have some."""
        return frozenset(names) | (frozenset() if self.public_share == 0 else {"public"})

    def steps_on(self, samples: int, steps: int, batch: int) -> int:
        """`steps`, or fewer where so many batches would pass over `samples` samples more than `passes` times."""
        return min(steps, math.ceil(self.passes * samples / batch))


class RoundSettings(TuningSettings, RobustSettings):
    """How synthetic samples are drawn, and how long clients learn from shared ones."""

    classes: Literal["stratified", "uniform"] = Field(
        "stratified", description="how the classes c_i of synthetic samples are drawn"
    )
    retrain_steps: int = Field(40, ge=0, description="client steps on shared samples a round (E_syn)")
    diagnostics: bool = Field(
        False, description="report alignment error, client drift and gradient variance in `facts`; no figure changes"
    )
    rollback: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="undo a round of tuning after which clients recognise less of what is drawn, by more than this "
        "share of the best so far and more than chance, or pictures of a class differ half as much; null: never",
    )
    catch_up: bool | None = Field(
        None,
        exclude_if=lambda catch_up: catch_up is None,
        description="teach clients that come, or come back, what they have missed of the last `replay_rounds` rounds; "
        "null: where `participation` is set",
    )
    check_each: int = Field(8, ge=2, description="pictures a class that are drawn each round to see that")

    @property
    def public_pairs(self) -> int:
        """P, size of the public set that is shared; 0: the generator's samples are, new each round."""
        return 0


class SharedSettings(RoundSettings):
    """Which samples are shared."""

    shared: Literal["synthetic", "public"] = Field(
        "synthetic",
        description="samples that everybody sees: the generator's, new each round, or a public set",
    )
    public: int = Field(200, ge=1, description="P, pairs in the public set (as many as the data has, if fewer)")

    @property
    def public_pairs(self) -> int:
        """P, or 0."""
        return self.public if self.shared == "public" else 0


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class SharedPictures:
    """Down to image clients: the shared pictures. wanted: which are asked about; None: all."""

    images: Annotated[Array, Wire("uint8", ("S", "H", "W", 3))]
    wanted: Annotated[Array, Wire("bool", ("S",))] | None = None


@dataclass(frozen=True)
class SharedTexts:
    """Down to text clients: the texts of the same samples, in the same order."""

    texts: tuple[str, ...]
    wanted: Annotated[Array, Wire("bool", ("S",))] | None = None


@dataclass(frozen=True)
class SharedAgain:
    """Down in place of either: the samples that the client was sent before."""

    samples: Count
    wanted: Annotated[Array, Wire("bool", ("S",))] | None = None


ASKED = (SharedPictures, SharedTexts, SharedAgain)


@dataclass(frozen=True)
class SharedLogits:
    """Up: scores before the softmax, of the samples asked about. A row that is not finite is no answer."""

    logits: Annotated[Array, Wire("float32", ("S", "C"), finite=False)]


@dataclass(frozen=True)
class SharedRepresentations:
    """Up: representations."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]


@dataclass(frozen=True)
class LabelledRepresentations:
    """Up: representations, and the label each client gives (-1: no finite answer); the generator needs labels."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]
    labels: Annotated[Array, Wire("int32", ("S",), low=-1, high=MOST_CLASSES - 1)]
