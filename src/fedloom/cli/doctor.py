"""`fedloom doctor`: what is here, what is missing, and the command that fixes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import typer

from fedloom.cli.options import ConfigOption, JsonOption, PresetOption, SetOption, configuration
from fedloom.cli.screen import grid, show, show_json

PYTHON = (3, 11)
ROOM = 2 * 10**9  # bytes a run with its cache should find free
State = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """A line of the examination: what, how it is, and the command that fixes it where it is not well."""

    name: str
    state: State
    value: str
    remedy: str = ""


def doctor(
    preset: PresetOption = None, config: ConfigOption = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Say what is missing, and the command that fixes it.

    Python, packages, device, memory, cache, disk, the embedded data and what the Flower engine needs are examined.
    With a configuration, the gates that it sets instead: whether judge, generator and captioner are good enough for a
    run (what is not pretrained yet is). Exit code 1 if something is broken, or a gate missed.

    Example: fedloom doctor --set "evaluation.gates={judge: 0.9}"
    """
    if preset or config or set_:
        return _gates(configuration(preset=preset, file=config, overrides=set_), json)
    found = examine()
    broken = [f for f in found if f.state == "broken"]
    if json:
        show_json({"ok": not broken, "findings": [asdict(f) for f in found]})
    else:
        show(grid(("", "state", "found", "what to do"), [(f.name, f.state, f.value, f.remedy) for f in found]))
        show(f"{len(broken)} broken" if broken else "All that a run needs is here.")
    if broken:
        raise typer.Exit(1)


def _gates(config: Any, json: bool) -> None:
    from contextlib import ExitStack

    from fedloom.cli.run import watcher
    from fedloom.experiment.gates import gates_of

    with ExitStack() as stack:
        gates = gates_of(config, watcher(stack, quiet=json))
    if json:
        show_json({"ok": all(g.passed for g in gates), "gates": [asdict(g) | {"passed": g.passed} for g in gates]})
    elif gates:
        rows = [(g.name, "passed" if g.passed else "missed", f"{g.value:.3f}", f"{g.wanted:g}") for g in gates]
        show(grid(("gate", "state", "right", "wanted"), rows, numbers=(2, 3)))
        for gate in gates:
            show(gate.text)
    else:
        show("This configuration sets no gates (evaluation.gates).")
    if not all(g.passed for g in gates):
        raise typer.Exit(1)


def examine() -> list[Finding]:
    """All findings; a part that cannot even be looked at is a finding too."""
    return [*_machine(), *_packages(), *_extras(), _device(), *_cache(), _data()]


# ----------------------------------------------------------------------------------------------------- machine


def _machine() -> list[Finding]:
    import os
    import platform

    from fedloom.formatting import byte_text

    version = platform.python_version()
    new = tuple(map(int, platform.python_version_tuple()[:2])) >= PYTHON
    remedy = "" if new else "make install PYTHON=python3.12"
    memory = _memory()
    return [
        Finding("python", "ok" if new else "broken", version, remedy),
        Finding("platform", "ok", platform.platform()),
        Finding("processors", "ok", str(os.cpu_count())),
        Finding("memory", "ok" if memory else "note", byte_text(memory) if memory else "not known"),
    ]


def _memory() -> int | None:
    """Bytes of memory of the machine, where the system says."""
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _device() -> Finding:
    """The processor, and each GPU with its memory: a run uses those that its configuration names."""
    from fedloom.formatting import byte_text

    try:
        import torch
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
        return Finding(
            "torch works", "broken", f"{type(error).__name__}: {error}", "pip install --force-reinstall torch"
        )
    n = torch.get_num_threads()
    said = [f"cpu: {n} thread{'s' * (n > 1)}"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        said.append(f"cuda:{number}: {facts.name}, {byte_text(facts.total_memory)}")
    if len(said) == 1:
        return Finding("device", "ok", said[0])
    return Finding("device", "ok", "; ".join(said), "to use a GPU: server.device=cuda, clients.devices=[cuda]")


# ---------------------------------------------------------------------------------------------------- packages


def _packages() -> list[Finding]:
    return [_package(name, bounds) for name, bounds in requirements().items()]


def requirements() -> dict[str, str]:
    """What the project needs by package, such as `{"torch": ">=2.6,<2.14"}`, without the extras."""
    import re
    import tomllib
    from importlib import metadata
    from pathlib import Path

    import fedloom

    source = Path(fedloom.__file__).parents[2] / "pyproject.toml"  # beside src/, when run from a clone
    if source.is_file():
        lines = tomllib.loads(source.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        lines = [line for line in metadata.requires("fedloom") or () if "extra ==" not in line]
    pairs = [re.match(r"\s*([\w.-]+)\s*([^;]*)", line) for line in lines]
    return {pair[1]: pair[2].strip() for pair in pairs if pair}


def _package(name: str, bounds: str) -> Finding:
    from importlib import metadata

    remedy = f"pip install '{name}{bounds}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "broken", f"missing, needed: {bounds}", remedy)
    if not within(version, bounds):
        return Finding(name, "broken", f"{version}, needed: {bounds}", remedy)
    return Finding(name, "ok", version)


def _extras() -> list[Finding]:
    """What only the Flower engine needs: a note where it is missing, as other runs do without."""
    from fedloom.deployment.offline import OLDEST, TOO_NEW

    oldest, new = (".".join(map(str, version)) for version in (OLDEST, TOO_NEW))
    return [
        _extra("flwr", f">={oldest},<{new}", "flower", "--engine flower"),
        _extra("ray", "", "simulation", "engine.mode=simulation"),
    ]


def _extra(name: str, bounds: str, extra: str, purpose: str) -> Finding:
    from importlib import metadata

    remedy = f"pip install 'fedloom[{extra}]'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "note", f"not installed, needed for {purpose} only", remedy)
    if not within(version, bounds):
        return Finding(name, "note", f"{version}, needed for {purpose}: {bounds}", remedy)
    return Finding(name, "ok", version)


def within(version: str, bounds: str) -> bool:
    """Whether a version meets bounds of the forms >=, >, <=, <, == and !=, by its numbers: `2.13.0+cpu` is 2.13.0."""
    import operator
    import re

    compare = {
        ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
        ">": operator.gt, "<": operator.lt,
    }  # fmt: skip

    def numbers(text: str) -> tuple[int, ...]:
        leading = re.match(r"[\d.]+", text)
        parts = [int(n) for n in leading[0].split(".") if n] if leading else []
        return (*parts, *[0] * (4 - len(parts)))

    return all(
        compare[sign](numbers(version), numbers(bound))
        for sign, bound in re.findall(r"(>=|<=|==|!=|>|<)\s*([\w.+]+)", bounds)
    )


# -------------------------------------------------------------------------------------------- cache, disk, data


def _cache() -> list[Finding]:
    import shutil
    import tempfile

    from fedloom.formatting import byte_text
    from fedloom.runs.cache import VARIABLE, cache_root

    root, remedy = cache_root(), f"export {VARIABLE}=FOLDER-THAT-CAN-BE-WRITTEN"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
        free = shutil.disk_usage(root).free
    except OSError as error:
        return [Finding("cache", "broken", f"{root}: {error.strerror or error}", remedy)]
    low = f"make room, or: export {VARIABLE}=FOLDER-WITH-ROOM" if free < ROOM else ""
    return [
        Finding("cache", "ok", f"{root}, {byte_text(size)}"),
        Finding("free disk", "note" if low else "ok", byte_text(free), low),
    ]


def _data() -> Finding:
    """Draw a little of the embedded data set."""
    small: dict[str, Any] = dict.fromkeys(("images", "texts", "test", "generic", "reference"), 24)
    try:
        from fedloom.data.registry import load_dataset

        scene = load_dataset("flora", size=12, **small)
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
        return Finding(
            "embedded data",
            "broken",
            f"{type(error).__name__}: {error}",
            "pip install --force-reinstall fedloom",
        )
    return Finding("embedded data", "ok", f"flora draws {scene.classes} species")
