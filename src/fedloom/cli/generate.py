"""`fedloom generate`: pictures from the generator that a run exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli.options import RunArgument, check_png
from fedloom.cli.screen import show

if TYPE_CHECKING:
    from fedloom.results import Run


def generate(
    run: RunArgument,
    prompt: Annotated[list[str], typer.Option(metavar="TEXT", help="What to draw. Can be repeated.")],
    n: Annotated[int, typer.Option("--n", metavar="N", min=1, help="Pictures a prompt.")] = 16,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture to write (PNG).")] = Path("grid.png"),
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the noise.")] = 0,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Sampling steps (default: the generator's own).")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Guidance scale (default: the generator's own).")
    ] = None,
) -> None:
    """Draw pictures with a run's generator.

    They go into one grid, a row a prompt.

    Example: fedloom generate runs/fedmmkt-flora-0 --prompt "A picture of iris." --n 8 --out iris.png
    """
    from fedloom.reporting.pictures import sample_grid
    from fedloom.results import load_run
    from fedloom.runs.disk import explained

    check_png("--out", out)
    drawn = load_run(run)
    pipeline = _pipeline(drawn)
    images = _draw(pipeline, drawn, [text for text in prompt for _ in range(n)], seed, steps, guidance)
    with explained("write", out):
        out.parent.mkdir(parents=True, exist_ok=True)
    width, height = sample_grid(images, prompt, out)
    show(f"picture {out} ({width} x {height} pixels)")


def _pipeline(run: Run) -> Any:
    from fedloom.errors import BadInput
    from fedloom.processes import settle_process

    if not (run.path / "export" / "generator").is_dir():
        if not run.finished:
            raise BadInput(
                f"run {run.path} is unfinished and has no generator yet. Finish it with: "
                f"fedloom run --resume {run.path}"
            )
        raise BadInput(f"run {run.path} has no generator: method {run.config.get('method')!r} works without one")
    threads = run.config.get("engine", {}).get("threads", 1)
    settle_process(threads)
    pipeline = run.generator
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _place(server: dict[str, Any]) -> tuple[str, Any]:
    """The run's device and precision, or this machine's CPU in fp32 where it has no such device."""
    from fedloom.errors import BadInput
    from fedloom.models.device import device_of

    device, precision = server.get("device", "cpu"), server.get("precision", "fp32")
    try:
        device_of(device)
    except BadInput as error:
        typer.echo(f"{error}; drawing on the CPU in fp32", err=True)
        return "cpu", "fp32"
    return device, precision


def _draw(pipeline: Any, run: Run, prompts: list[str], seed: int, steps: int | None, guidance: float | None) -> Any:
    """Pictures uint8 (N, H, W, 3), a batch at a time."""
    import numpy as np
    import torch

    from fedloom.config.models import GeneratorSettings
    from fedloom.config.trees import validate
    from fedloom.models.generators.drawing import prepare_drawing

    server = run.config.get("server", {})
    settings = validate(GeneratorSettings, server.get("generator", {}))
    batch, draw = prepare_drawing(pipeline, settings, steps, guidance, *_place(server))
    noise = torch.Generator().manual_seed(seed)
    return np.concatenate([draw(prompts[i : i + batch], noise) for i in range(0, len(prompts), batch)])
