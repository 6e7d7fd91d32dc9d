"""The kinds of clients there are, for all who count or name them. Light: no arrays."""

from __future__ import annotations

from typing import Literal, get_args

ClientTask = Literal["image", "text", "pair", "joint"]
CLIENT_TASKS: tuple[ClientTask, ...] = get_args(ClientTask)
