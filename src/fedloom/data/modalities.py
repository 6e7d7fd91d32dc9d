"""The kinds of clients there are, for all who count or name them. Light: no arrays."""

from __future__ import annotations

from typing import Literal, get_args

Modality = Literal["image", "text", "pair", "joint"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
