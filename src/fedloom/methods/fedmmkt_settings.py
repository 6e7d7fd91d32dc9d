"""What can be set in FedMMKT: every reading of the paper, and every number, with its symbol and equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from fedloom.errors import BadInput
from fedloom.methods.tuning import TuningSettings


class FedMMKTSettings(TuningSettings):
    """Defaults are those of the specification unless the description says otherwise."""

    variant: Literal["full", "u", "l"] = Field("full", description="all of it, one modality (u-), or logits (l-)")
    # eq. 2
    classes: Literal["stratified", "uniform"] = Field("stratified", description="how class labels c_i are drawn")
    # eqs. 3-5
    labvote: bool = Field(True, description="off: keep the drawn labels and every sample (-LabVote)")
    confidence: Literal["inv", "exp", "lin"] = Field("inv", description="weight as a function of entropy, eq. 3")
    entropy_floor: float = Field(0.01, gt=0, description="H_min in nats")
    gamma: float = Field(0.5, ge=0, le=1, description="share of clients that must agree, eq. 5")
    # eqs. 6-10, 28-30, 33
    fusion: bool = Field(True, description="off: no representations anywhere (-MultiRepFusion)")
    attention: Literal["paired", "batch", "chunk", "mha"] = Field("paired", description="cross-attention, eqs. 6-7")
    attention_temperature: float = Field(0.1, gt=0, description="tau_a of mode `batch`")
    attention_heads: int = Field(8, ge=1, description="heads of modes `chunk` and `mha`")
    contrast_temperature: float = Field(1.0, gt=0, description="tau of eq. 8")
    include_self: bool = Field(False, description="keep j = i in the denominator of eq. 8")
    anchor: Literal["raw", "enhanced"] = Field("raw", description="means that eq. 8 compares with")
    balance: bool = Field(False, description="give both modalities equal say however many clients each has")
    # eq. 13
    retrain_steps: int = Field(40, ge=0, description="client steps on synthetic samples a round (E_syn)")
    kl_weight: float = Field(1.0, ge=0, description="lambda of eq. 13; 0 is -Client_Rep")
    align: Literal["kl", "mse", "cos"] = "kl"
    align_direction: Literal["forward", "reverse"] = Field("forward", description="forward: teacher first")
    align_temperature: float = Field(1.0, gt=0, description="tau_r of eq. 13")
    mix: bool = Field(False, description="add a private batch to each synthetic one instead of private steps after")


def resolve(settings: FedMMKTSettings, modalities: Sequence[str]) -> FedMMKTSettings:
    """With one modality there is nothing to attend across: u-FedMMKT (eq. 33) takes the place of eqs. 6-7."""
    if settings.variant == "u" and len(set(modalities)) > 1:
        raise BadInput("settings.variant = 'u' is for clients of one modality; set clients.image=[] or clients.text=[]")
    return (
        settings.model_copy(update={"variant": "u"})
        if settings.variant == "full" and len(set(modalities)) == 1
        else settings
    )
