"""Which data set a run reads, and how it is split among the clients."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fedloom.config.corruption import Corruption
from fedloom.config.models import Frozen
from fedloom.registry import DATASETS


class CanarySettings(Frozen):
    """Samples that stand out, each in a client's training data by the toss of a coin, for `fedloom audit`."""

    count: int = Field(ge=1, le=100_000, description="canaries of a client; mislabelled: at most half of its samples")
    kind: Literal["mislabelled", "random"] = Field(
        "mislabelled", description="some of its own samples under another class, or noise under any"
    )


class DataSettings(Frozen):
    """Which data set, and how its training part is split among the clients."""

    name: Annotated[str, AfterValidator(DATASETS.lenient)] = "flora"
    root: str | None = Field(None, description="folder of a data set that is not embedded")
    options: dict[str, Any] = Field(default_factory=dict, description="what the data set's reader takes besides")
    partition: Literal["iid", "dirichlet", "dirichlet-uncapped", "dirichlet-hsu", "pathological"] = Field(
        "dirichlet", description="dirichlet: with the cap of CreamFL and FedAFD; -uncapped: without; -hsu: Hsu et al.'s"
    )
    alpha: float = Field(0.5, gt=0, description="Dirichlet concentration; small is skewed (-hsu: sum over classes)")
    classes_per_client: int = Field(2, ge=1, description="for the pathological split")
    by_group: bool = Field(
        False,
        exclude_if=lambda by_group: not by_group,
        description="a client holds, and is tested on, samples of one group alone, of data that have groups "
        "(emoji: styles of pictures, languages of texts)",
    )
    minimum: int = Field(8, ge=1, description="fewest samples of a client")
    multi_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the multimodal clients that hold both kinds of data; of the rest half hold the first "
        "kind only, half the second",
    )
    corruption: Corruption = Corruption()
    canaries: CanarySettings | None = Field(
        None,
        exclude_if=lambda canaries: canaries is None,
        description="samples of every client by which a privacy audit bounds epsilon from below; null: none",
    )
