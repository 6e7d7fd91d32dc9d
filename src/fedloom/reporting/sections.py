"""The parts of the report on one run. Each returns '' where the run has nothing to say about it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fedloom.data.tasks import ClientTask
from fedloom.reporting.accounts import missing, origin, time, wire
from fedloom.reporting.health import run_warnings
from fedloom.reporting.markup import (
    Markup,
    drawn,
    esc,
    figure,
    join,
    picture_file,
    section,
    sparkline,
    table,
    warning_name,
)
from fedloom.reporting.pictures import curves, label_curves, split_picture
from fedloom.reporting.retrieval import retrieval
from fedloom.reporting.scores import (
    SCORES,
    TOLD,
    Score,
    before_after,
    client_score,
    end_of,
    number,
    series,
    told,
    wanted,
)
from fedloom.reporting.streams import streams
from fedloom.runs import RunFiles

STRIP = 12  # pictures in the strip of rounds


def run_name(run: RunFiles) -> str:
    """`fedmmkt on flora, seed 0`."""
    facts = {**_top(run.config), **run.summary}
    name = str(facts.get("method", run.path.resolve().name))
    name += f" on {facts['data']}" if "data" in facts else ""
    return name + (f", seed {facts['seed']}" if "seed" in facts else "")


def _top(config: Mapping[str, Any]) -> dict[str, Any]:
    """Method, data and seed from the configuration; a group stands for its `name`."""
    named = {k: config[k] for k in ("method", "data", "seed") if k in config}
    return {k: v.get("name", "?") if isinstance(v, Mapping) else v for k, v in named.items()}


def rounds_done(run: RunFiles) -> int:
    """The last round that was finished."""
    return max((int(row.get("round", 0)) for row in run.rounds), default=0)


def clients_of(run: RunFiles) -> dict[str, list[str]]:
    """Client names by modality: from the summary, else by how the names in the metrics begin."""
    known = run.summary.get("clients")
    if isinstance(known, Mapping):
        return {str(k): [str(n) for n in v] for k, v in known.items() if v}
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(n for row in run.rounds for n in row.get("per_client") or ()):
        found.setdefault(end_of(name, {}) or "other", []).append(name)
    return found


def change(score: Score, before: float | None, after: float | None) -> Markup:
    """The change, coloured and with an arrow by whether it is for the better."""
    better = score.improved(before, after)
    text = esc(score.say_change(before, after))
    if better is None:
        return text
    rises = after is not None and before is not None and after > before
    return Markup(f'<span class="{"up" if better else "down"}">{"▲" if rises else "▼"} {text}</span>')


def head(run: RunFiles) -> Markup:
    """Title, what it was, and the scores before and after."""
    badge = '<span class="badge">finished</span>' if run.finished else '<span class="badge open">unfinished</span>'
    clients = [f"{len(names)} {end} client{'s' * (len(names) != 1)}" for end, names in clients_of(run).items()]
    done, planned = rounds_done(run), number(run.config.get("rounds"))
    rounds = f"{done} round{'s' * (done != 1)}"
    if planned is not None and done < planned:
        rounds = f"{done} of {planned:.0f} rounds"
    facts = [rounds, *clients]
    version = run.summary.get("version") or (run.environment.get("packages") or {}).get("fedloom")
    facts += [f"fedloom {version}"] if version else []
    facts += [f"started {run.environment['started']}"] if run.environment.get("started") else []
    cards = {score: card for score in told(run.summary) if (card := _card(run, score))}
    missed = wanted(score.key for score in cards)
    absent = [score.name for score in TOLD if score.key in missed and score not in cards]
    notes = [f"Not measured in this run: {', '.join(absent)}."] if absent else []
    judged = number((run.summary.get("judge") or {}).get("real_test_accuracy"))
    if judged is not None:
        notes.append(f"The judge of the generator recognises {100 * judged:.1f}% of real test pictures.")
    networks = run.summary.get("networks") or {}
    if {"fid", "inception_score"} <= networks.keys():
        notes.append(
            f"FID is taken on the features of {networks['fid']}, the Inception score on the classes of "
            f"{networks['inception_score']}: numbers of other networks mean something else."
        )
    return Markup(
        f'<header><h1>{esc(run_name(run))} {badge}</h1><p class="sub">{esc(" · ".join(facts))}</p></header>'
        f'<div class="cards">{join(list(cards.values()))}</div><p class="note">{esc(" ".join(notes))}</p>'
    )


def doubts(run: RunFiles) -> Markup:
    """Why scores may not mean what they seem to, and what to do."""
    rows = [(warning_name(w.name, w.level), w.message, w.advice) for w in run_warnings(run)]
    serious = any(w.level == "serious" for w in run_warnings(run))
    note = "Red: scores that cannot mean anything as they are. " if serious else ""
    return section("Before you trust these scores", note, table(("Warning", "What was found", "What to do"), rows))


def _card(run: RunFiles, score: Score) -> Markup:
    before, after = before_after(score, run.summary, run.rounds)
    if before is None and after is None:
        return Markup("")
    return Markup(
        f'<div class="card"><div class="name">{esc(score.name)}</div>'
        f'<div class="after">{esc(score.say(after))}</div>'
        f'<div class="before">from {esc(score.say(before))}</div><div>{change(score, before, after)}</div>'
        f'{sparkline(series(run.rounds, *score.path)[1])}<div class="about">{esc(score.note)}</div></div>'
    )


def progress(run: RunFiles) -> Markup:
    """The curves."""
    if not any(series(run.rounds, score.key)[0] for score in SCORES):
        return Markup("")
    plot = drawn(lambda target: curves(run.rounds, target, clients=clients_of(run)), "scores over rounds")
    return section("Over the rounds", "Thick: the mean. Thin: each client. Round 0 is before the first exchange.", plot)


def samples(run: RunFiles) -> Markup:
    """The first and the last grid, and a strip of all."""
    paths = run.samples
    if not paths:
        return Markup("")
    shown = [paths[0]] if len(paths) == 1 else [paths[0], paths[-1]]
    pair = "".join(figure(picture_file(p, _round(p)), _round(p)) for p in shown)
    parts = [Markup(f'<div class="pair{" one" * (len(shown) == 1)}">{pair}</div>')]
    if len(paths) > 2:
        step = max(1.0, (len(paths) - 1) / (STRIP - 1))
        chosen = [paths[round(i * step)] for i in range(min(STRIP, len(paths)))]
        strip = "".join(figure(picture_file(p, _round(p), height=300), _round(p)) for p in chosen)
        parts.append(Markup(f'<h3>Round by round</h3><div class="strip">{strip}</div>'))
    return section("What the generator draws", "The same prompts in each round.", *parts)


def _round(path: Any) -> str:
    number = int(path.stem.rpartition("_")[2])
    return f"Round {number}{' (before)' if number == 0 else ''}"


def labels(run: RunFiles) -> Markup:
    """The label panel and the accuracy of labels."""
    parts: list[Markup] = []
    if run.label_panels:
        last = run.label_panels[-1]
        parts.append(figure(picture_file(last, "label panel"), _round(last)))
    if any(series(run.rounds, "labels", key)[0] for key in ("prompt_accuracy", "voted_accuracy", "kept_share")):
        parts.append(drawn(partial(label_curves, run.rounds), "accuracy of labels over rounds"))
    note = (
        "The generator does not always draw what its prompt names. The clients vote on what each shows: "
        "the vote can correct the label, confirm it, or drop the picture."
    )
    return section("What the vote does to the labels", note, *parts)


def clients(run: RunFiles) -> Markup:
    """Accuracy of each client, and what each holds."""
    ends = clients_of(run)
    rows, score = [], SCORES[0]  # all are said as shares
    for end, names in ends.items():
        after_all = (run.summary.get(client_score(end)) or {}).get("per_client") or {}
        for name in names:
            values = series(run.rounds, "per_client", name)[1]
            before = values[0] if values else None
            after = number(after_all.get(name)) if name in after_all else (values[-1] if values else None)
            rows.append((name, end, score.say(before), score.say(after), change(score, before, after)))
    parts = [table(("Client", "Holds", "Before", "After", "Change"), rows, numbers=(2, 3, 4))]
    split = run.split
    if split and isinstance(split.get("clients"), Mapping) and split["clients"] and split.get("classes"):
        names, counts = list(split["clients"]), list(split["clients"].values())
        picture = drawn(lambda t: split_picture(counts, names, split["classes"], t), "samples by client and class")
        parts.append(Markup(f"<br>{picture}"))
    note = "Accuracy on held-out data that no client trains on."
    note += " Of pair clients: R@1 of retrieval, mean of both directions." if ClientTask.RETRIEVAL in ends else ""
    note += (
        " Of joint clients: by the kinds of data that a client holds."
        if ClientTask.MULTIMODAL_CLASSIFICATION in ends
        else ""
    )
    return section("The clients", note, *parts)


def data(run: RunFiles) -> Markup:
    """What was left out of the data, or looks wrong in them."""
    lines = run.summary.get("data_notes") or ()
    items = join([Markup(f"<li>{esc(line)}</li>") for line in lines])
    note = "Noticed as they were read; nothing here was mended." if lines else ""
    return section("The data", note, Markup(f"<ul>{items}</ul>") if lines else Markup(""))


def whole_run(run: RunFiles) -> Markup:
    """All parts, in order of interest."""
    return join(
        [
            part(run)
            for part in (
                head,
                doubts,
                data,
                samples,
                labels,
                progress,
                streams,
                retrieval,
                clients,
                wire,
                time,
                missing,
                origin,
            )
        ]
    )
