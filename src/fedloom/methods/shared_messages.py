"""What crosses the wire in the methods that learn from shared samples, and what can be set in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from fedloom.federation.messages import MOST_CLASSES, Count
from fedloom.federation.messages import Tensor as Wire
from fedloom.methods.robust import RobustSettings
from fedloom.methods.tuning import TuningSettings

Array = NDArray[Any]


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
