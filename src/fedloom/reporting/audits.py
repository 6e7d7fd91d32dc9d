"""The report on what the server learned: of `audit.json`, as `fedloom audit` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fedloom.reporting.audit_plots import label_bars, roc_curves
from fedloom.reporting.pages import Cell, Table, drawn
from fedloom.reporting.scores import number
from fedloom.runs import RunFiles

FIGURES = (("auc", "AUC"), ("advantage", "Advantage"), ("tpr_1", "TPR at 1 % FPR"), ("tpr_01", "TPR at 0.1 % FPR"))
WAYS = (("loss", "loss"), ("ratio", "likelihood ratio"))


def mechanisms(config: Mapping[str, Any]) -> list[str]:
    """What protects the clients of a run with this configuration, a few words each; "none" where nothing does."""
    found, settings = [], _part(config, "settings")
    privacy = _part(_part(config, "clients"), "privacy")
    if (epsilon := number(privacy.get("epsilon"))) is not None:
        found.append(f"private steps, epsilon {epsilon:g}")
    if (epsilon := number(_part(privacy, "answers").get("epsilon"))) is not None:
        found.append(f"noise at the wire, epsilon {epsilon:g}")
    if settings.get("secure"):
        found.append("secure sums")
    return found or ["none"]


def audit_facts(run: RunFiles) -> dict[str, Any] | None:
    """What the report shows of a run's audit; None where there was none."""
    told = run.audit
    if not told:
        return None
    clients = _part(told, "clients")
    curves = {f"{k}, {w}": c for k, found in clients.items() for w, c in _curves(found)}
    shares = {
        k: (s["truth"], s["estimate"]) for k, found in clients.items() if "truth" in (s := _part(found, "labels"))
    }
    return {
        "mechanisms": ", ".join(map(str, told.get("mechanisms") or mechanisms(run.config))),
        "note": told.get("note"),
        "membership": membership_table(clients),
        "curves": drawn(partial(roc_curves, curves), "ROC curves of the attacks") if curves else None,
        "reconstruction": _reconstructions(clients),
        "labels": _labels(clients),
        "shares": drawn(partial(label_bars, shares), "share of each class, true and guessed") if shares else None,
        "canaries": canary_table([("", told)]),
        "skipped": _skipped(told),
    }


def membership_table(clients: Mapping[str, Any]) -> Table:
    """Each attack on each client: figures with their intervals."""
    rows = []
    for client, found in clients.items():
        own = _part(found, "membership")
        for way, name in WAYS:
            if "auc" in (figures := _part(own, way)):
                shown = (interval(figures.get(key)) for key, _ in FIGURES)
                rows.append((client, name, own.get("from", ""), f"{figures.get('members')}", *shown))
    head = ("Client", "Attack", "From", "Members", *(name for _, name in FIGURES))
    return Table(head, rows, numbers=range(3, len(head)))


def compared_table(audits: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """A line a run: its mechanisms, and the mean over clients of what each attack reached."""
    rows = []
    for name, told in audits:
        clients = list(_part(told, "clients").values())
        row = [name, ", ".join(map(str, told.get("mechanisms") or ()))]
        for way, _ in WAYS:
            figures = [_part(_part(c, "membership"), way) for c in clients]
            row += [_mean([f[key][0] for f in figures if _is_interval(f.get(key))]) for key in ("auc", "advantage")]
        row.append(_mean([_part(c, "reconstruction").get("psnr") for c in clients], 1))
        row.append(_mean([_part(c, "labels").get("l1") for c in clients]))
        row.append(_shown(_part(told, "canaries").get("epsilon")))
        rows.append((*row, _shown(_part(told, "canaries").get("stated"))))
    ways = [f"{what}, {way}" for _, way in WAYS for what in ("AUC", "advantage")]
    head = ("Run", "Mechanisms", *ways, "PSNR, dB", "L1 of classes", "Epsilon at least", "Stated")
    return Table(head, rows, numbers=range(2, len(head)))


def canary_table(audits: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """What canaries say of epsilon, a line a run; no rows without canaries."""
    rows = []
    for name, told in audits:
        own = _part(told, "canaries")
        bound, stated = number(own.get("epsilon")), number(own.get("stated"))
        if bound is None:
            continue
        broken = stated is not None and bound > stated
        shown = Cell(f"{bound:.3g}", "down" if broken else "", bold=True)
        right = f"{own.get('right')} of {own.get('guesses')}"
        said = "no epsilon is stated" if stated is None else f"{stated:g}" + (": exceeded" if broken else "")
        rows.append(([name] if name else []) + [str(own.get("canaries")), right, shown, said, _shown(own.get("delta"))])
    head = (["Run"] if audits and audits[0][0] else []) + [
        *("Canaries", "Guesses that were right", "Epsilon at least", "Stated epsilon", "At delta")
    ]
    return Table(head, rows, numbers=range(len(head)))


def interval(figure: Any) -> str:
    """`0.61 (0.55 to 0.67)`."""
    if not _is_interval(figure):
        return "–"
    value, low, high = figure
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _reconstructions(clients: Mapping[str, Any]) -> Table:
    rows = []
    for client, found in clients.items():
        own = _part(found, "reconstruction")
        if "psnr" in own:
            figures = (_shown(own.get(key), 1) for key in ("psnr", "psnr_mean", "psnr_nearest"))
            rows.append((client, own.get("from", ""), f"{own.get('pictures')}", *figures, _shown(own.get("ssim"), 2)))
    head = ("Client", "From", "Pictures", "PSNR, dB", "Of the mean picture", "Of the nearest known", "SSIM")
    return Table(head, rows, numbers=range(2, len(head)))


def _labels(clients: Mapping[str, Any]) -> Table:
    rows = []
    for client, found in clients.items():
        own = _part(found, "labels")
        if "l1" in own:
            rows.append((client, own.get("from", ""), *(_shown(own.get(k)) for k in ("l1", "l1_even", "correlation"))))
    head = ("Client", "From", "L1 distance", "Of an even guess", "Correlation")
    return Table(head, rows, numbers=range(2, len(head)))


def _skipped(told: Mapping[str, Any]) -> list[str]:
    """What could not be attacked, and why; a line each."""
    lines = []
    for client, found in _part(told, "clients").items():
        for attack, own in _part({"": found}, "").items():
            parts = {attack: own, **({f"{attack} by likelihood ratio": own.get("ratio")} if _is(own) else {})}
            lines += [f"{client}, {name}: {p['skipped']}." for name, p in parts.items() if _is(p) and "skipped" in p]
    if "skipped" in (own := _part(told, "canaries")):
        lines.append(f"Canaries: {own['skipped']}.")
    return lines


def _curves(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    own = _part(found, "membership")
    return [(name, _part(own, way)["roc"]) for way, name in WAYS if _part(own, way).get("roc")]


def _part(tree: Any, key: str) -> Mapping[str, Any]:
    found = tree.get(key) if isinstance(tree, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_interval(figure: Any) -> bool:
    return isinstance(figure, list) and len(figure) == 3 and all(number(v) is not None for v in figure)


def _shown(value: Any, decimals: int | None = None) -> str:
    known = number(value)
    return "–" if known is None else f"{known:.3g}" if decimals is None else f"{known:.{decimals}f}"


def _mean(values: Sequence[Any], decimals: int | None = None) -> str:
    known = [v for v in map(number, values) if v is not None]
    return _shown(sum(known) / len(known) if known else None, decimals)
