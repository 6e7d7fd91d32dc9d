from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_hub import TinyHub

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "vocab.txt": b"one\ntwo\n",
    "model.safetensors": bytes(range(256)) * 5000,
    "pytorch_model.bin": b"the same in another form",
    "README.md": b"# words",
    "onnx/model.onnx": b"not asked for",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyHub]:
    """A hub that holds tiny/bert, and an empty folder of weights; broken transfers are taken up at once."""
    served = TinyHub({"tiny/bert": dict(FILES)})
    served.start()
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("fedloom.weights.web.WAITS", (0.0, 0.0))
    yield served
    served.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "weights"
