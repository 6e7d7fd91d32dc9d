"""How much of a client's data is corrupted, as validated values. Light: the configuration imports it."""

from __future__ import annotations

from pydantic import Field

from fedloom.config.base import Frozen


class Corruption(Frozen):
    """What is broken in a client's training data; all of it is off by default."""

    missing_modality: float = Field(
        0.0, ge=0, le=1, description="rate at which each kind of data of each sample is missing"
    )
    missing_label: float = Field(0.0, ge=0, le=1, description="rate of samples without a label: they leave training")
    wrong_label: float = Field(0.0, ge=0, le=1, description="rate of samples under the label of another class")
    wrong_spread: float = Field(
        0.6,
        ge=0,
        le=1,
        description="share of the other classes that a class is taken for, at least one: 1 - FedMultimodal's sparsity",
    )

    @property
    def active(self) -> bool:
        """Whether anything is corrupted at all."""
        return max(self.missing_modality, self.missing_label, self.wrong_label) > 0
