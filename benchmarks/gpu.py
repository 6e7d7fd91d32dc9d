"""What an accelerator makes of fedloom's heavy parts, beside plain loops over the same networks and the card's limits.

    python benchmarks/gpu.py drawing  --device cuda          # Stable Diffusion 1.5 and GLIDE, images a second
    python benchmarks/gpu.py training --device cuda          # a step of the generator, of a ViT-B/32, of a BERT-base
    python benchmarks/gpu.py fusion   --device cuda          # MultiRepFusion of 64 clients' 100 000 samples
    python benchmarks/gpu.py round    --device cuda          # a round of the preset paper/flowers102-sd
    python benchmarks/gpu.py limits   --card H200            # what bounds these: needs no accelerator
    python benchmarks/gpu.py summary                         # the table of what was measured

Networks have their published sizes and random weights (`random_weights.py`, written to --weights when first needed).
Each section ends within ten minutes on one card and can be given again: what lies on disk is not made again, a round
goes on where it was. Times are CUDA's events; the first call is dropped, ways of doing the same take turns. Rows are
appended to --out. `--size tiny --device cpu` runs everything small, to check the script and not the machine.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from measured import PEAKS, Row, write

from fedloom.processes import settle_process

SECTIONS = ("drawing", "training", "fusion", "round", "limits", "summary")
HERE = Path(__file__).parent


def measured(section: str, given: argparse.Namespace, device: torch.device) -> list[Row]:
    """The rows of a section."""
    if section == "drawing":
        import gpu_drawing

        return gpu_drawing.rows(given.weights, given.size, device, given.repeats, given.precision)
    if section == "training":
        import gpu_training

        return gpu_training.rows(given.weights, given.size, device, given.repeats, given.precision)
    if section == "fusion":
        import gpu_fusion

        return gpu_fusion.rows(given.size, device, given.repeats)
    import gpu_round

    return gpu_round.rows(given.weights, given.size, device, given.work, given.set)


def table(rows: list[Row]) -> str:
    """Markdown of rows, one line each."""
    lines = ["| what | way | median s (min to max) | images/s | share of FLOP peak | of byte peak | peak memory |"]
    lines.append("|---|---|---|---|---|---|---|")
    for r in rows:
        span = f"{r['median']:.4g} ({r['min']:.4g} to {r['max']:.4g})" if "median" in r else f"{r['seconds']:.4g}"
        shares = [r.get(key) for key in ("images_per_s", "share_of_flop_peak", "share_of_byte_peak")]
        cells = ["" if s is None else f"{s:.3g}" for s in shares]
        memory = f"{r['peak_bytes'] / 1e9:.1f} GB" if r.get("peak_bytes") else ""
        lines.append(f"| {r['what']} | {r['way']} | {span} | {' | '.join(cells)} | {memory} |")
    return "\n".join(lines)


def limits(card: str) -> str:
    """Markdown of what bounds each figure."""
    import gpu_limits

    lines = [f"| what | way | TFLOP | least seconds on {card} | by |", "|---|---|---|---|---|"]
    for r in gpu_limits.rows(card):
        by = f"{r['arithmetic']} peak" if r["flop"] else "memory"
        lines.append(f"| {r['what']} | {r['way']} | {r['flop'] / 1e12:.4g} | {r['seconds']:.3g} | {by} |")
    return "\n".join(lines)


def main() -> None:
    """Measure a section, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--device", default="cuda", help="as torch names it")
    parser.add_argument("--size", choices=("real", "tiny"), default="real")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=Path("random-weights"), help="folder of random weights")
    parser.add_argument("--work", type=Path, default=Path("gpu-round"), help="folder of the round's data and run")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.jsonl")
    parser.add_argument("--card", choices=tuple(PEAKS), default="H200", help="whose limits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the round's run")
    given = parser.parse_args()
    if given.section == "summary":
        lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.is_file() else []
        print(table([json.loads(line) for line in lines]))
        return
    settle_process()
    if given.section == "limits":
        print(limits(given.card))
        return
    given.weights = given.weights.absolute()
    os.environ["FEDLOOM_WEIGHTS"] = str(given.weights)
    device = torch.zeros(1, device=given.device).device
    write(measured(given.section, given, device), given.out, device)


if __name__ == "__main__":
    main()
