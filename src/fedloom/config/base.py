"""The base of all settings. Light to import: no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "fp16", "bf16"]  # of arithmetic; weights that are trained stay fp32
Seed = Annotated[int, Field(ge=0, lt=2**53)]  # whole in a float too: what reads a run's files asks that of it


class Frozen(BaseModel):
    """Base of all settings: immutable, numbers are finite, and an unknown key is an error."""

    # Trees inside, such as a method's own settings, are dumped before they are checked: infinities too.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")
