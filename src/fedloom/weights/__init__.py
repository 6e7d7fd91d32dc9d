"""Pretrained weights: where they lie on this machine, and under which hub name and revision they are known."""

from __future__ import annotations

from fedloom.weights.place import hub_arguments, need, placed, weights_root

__all__ = ["hub_arguments", "need", "placed", "weights_root"]
