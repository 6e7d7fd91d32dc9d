"""The accelerator's benchmarks in tiny: the counts are right, both ways draw the same, nothing mixes devices."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import gpu
import gpu_drawing
import gpu_fusion
import gpu_limits
import gpu_round
import gpu_training
import measured
import numpy as np
import pytest
import torch

from fedloom.functional.fusion import fuse_modalities
from pretend import DEVICE, pretended

CPU = torch.device("cpu")


def test_flop_of_a_product_and_times_by_turns() -> None:
    x = torch.ones(16, 32)
    assert measured.flop(lambda: x @ x.T) == 2 * 16 * 16 * 32
    order: list[str] = []
    found = measured.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, 2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert len(found["a"]["seconds"]) == 2
    assert found["a"]["min"] <= found["a"]["median"] <= found["a"]["max"]


def test_shares_of_the_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    row = measured.against({"median": 2.0}, torch.device("cuda"), "bf16", 989.5e12, 4.8e12)
    assert row["share_of_flop_peak"] == row["share_of_byte_peak"] == 0.5
    assert measured.against({"median": 2.0}, CPU, "bf16", 1.0)["share_of_flop_peak"] is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-40GB")
    assert measured.peak(torch.device("cuda"), "bytes") == 1.555e12


def test_the_formula_of_fusion_is_what_torch_counts() -> None:
    image, text = torch.randn(2, 2, 300, 16)
    counted = measured.flop(lambda: fuse_modalities(image, text))
    assert counted == pytest.approx(gpu_fusion.flops(4, 300, 16), rel=0.01)


@pytest.mark.conformance
def test_limits_of_the_clients_are_six_flop_a_weight_and_token() -> None:
    vit, bert = gpu_limits.clients()
    assert vit["flop"] == pytest.approx(6 * 87.5e6 * 32 * 50, rel=0.03)
    assert bert["flop"] == pytest.approx(6 * 85.1e6 * 32 * gpu_training.TOKENS, rel=0.03)


def test_both_ways_draw_the_same_pictures(weights: Path) -> None:
    ways = gpu_drawing.latent_ways(weights / gpu_drawing.SD, (2, 2, 7.5), CPU, "fp32")
    assert np.abs(ways["plain"]().astype(int) - ways["fedloom"]()).max() <= 1
    assert ways["plain"]().shape == (2, 64, 64, 3)
    glide = gpu_drawing.glide_ways(weights / gpu_drawing.GLIDE, (2, 2, 3.0), CPU, "fp32")
    assert glide["plain"]().shape == glide["fedloom"]().shape == (2, 64, 64, 3)


def test_steps_train_what_they_should_on_another_device(weights: Path) -> None:
    with pretended():
        device = torch.device(DEVICE)
        for train in ("unet", "lora"):
            gpu_training.latent(weights / gpu_drawing.SD, train, 2, device, "bf16")()
        gpu_training.glide(weights / gpu_drawing.GLIDE, 2, device, "bf16")()
        for arch, name in (("vit", gpu_training.IMAGE), ("bert", gpu_training.TEXT)):
            gpu_training.client(arch, name, 2, device, "bf16")()
        (row,) = gpu_fusion.rows("tiny", device, 1)
    assert row["flop"] == gpu_fusion.flops(4, 600, 32)


def test_a_section_is_put_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "gpu.jsonl"
    call = ["gpu.py", "fusion", "--device", "cpu", "--size", "tiny", "--repeats", "1", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setenv("FEDLOOM_WEIGHTS", "")  # main() sets it: put back afterwards
        patch.setattr(sys, "argv", call)
        gpu.main()
        (row,) = map(json.loads, out.read_text().splitlines())
        assert row["torch"] == torch.__version__
        assert row["share_of_flop_peak"] is None
        patch.setattr(sys, "argv", ["gpu.py", "summary", "--out", str(out)])
        gpu.main()
    assert "| MultiRepFusion, 4 clients, N = 600, D = 32 | fp32 |" in capsys.readouterr().out


def test_a_round_is_begun_then_resumed(tmp_path: Path) -> None:
    first = gpu_round.command(tmp_path / "data", tmp_path, "real", torch.device("cuda:0"), ["seed=3"])
    assert first[first.index("--preset") + 1] == "paper/flowers102-sd"
    assert {"server.device=cuda:0", "clients.devices=[cuda:0]", "rounds=1", "seed=3"} <= set(first)
    (tmp_path / "config.yaml").touch()
    again = gpu_round.command(tmp_path / "data", tmp_path, "real", torch.device("cuda:0"), [])
    assert again[-2:] == ["--resume", str(tmp_path)]


def test_phases_of_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = {"seconds": {"setup": 0.5, "total": 9.0}, "peak_memory_bytes": 5}
    rounds = [
        {"round": 0, "seconds": {"evaluation": 1.0}},
        {"round": 1, "seconds": {"draw": 2.0, "tune": 3.0}},
    ]
    monkeypatch.setattr(gpu_round, "load_run", lambda path: SimpleNamespace(summary=summary, rounds=rounds))
    rows = gpu_round.phases(tmp_path)
    assert [(r["way"], r["seconds"]) for r in rows] == [
        ("evaluation", 1.0),
        ("draw", 2.0),
        ("tune", 3.0),
        ("setup", 0.5),
        ("rest", 2.5),
        ("total", 9.0),
    ]
    assert "| total | 9 |" in gpu.table(rows)
