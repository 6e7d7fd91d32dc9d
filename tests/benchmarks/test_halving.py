"""The generators that come with the package: how they are halved (tests/weights/test_shipped.py has what they are)."""

from __future__ import annotations

from pathlib import Path

import shipped
import torch
from safetensors.torch import load_file, save_file


def test_halving(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "unet").mkdir(parents=True)
    save_file({"w": torch.ones(3), "n": torch.tensor([1])}, made / "unet" / "model.safetensors")
    save_file({"weight": torch.zeros(2, 2)}, made / "bridge.safetensors")
    (made / "model_index.json").write_text("{}")
    shipped.halve(made, tmp_path / "half")
    half = load_file(tmp_path / "half" / "unet" / "model.safetensors")
    assert (half["w"].dtype, half["n"].dtype) == (torch.float16, torch.int64)
    assert sorted(f.name for f in (tmp_path / "half").rglob("*")) == ["model.safetensors", "model_index.json", "unet"]
