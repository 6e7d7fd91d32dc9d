"""Which data set a run reads, and how it is split among the clients."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fedloom.config.corruption import Corruption
from fedloom.config.models import Frozen
from fedloom.registry import DATASETS


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
