"""The parts of a run's page: scores, pictures, clients, what crossed, time, health, log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedloom.formatting import byte_text, second_text
from fedloom.reporting.budgets import budget_table
from fedloom.reporting.facts import method_facts
from fedloom.reporting.heads import change, clients_of
from fedloom.reporting.heads import head as report_head
from fedloom.reporting.pages import Cell, Table
from fedloom.reporting.scores import SCORES, Row, client_score, kinds_of, number, series, told
from fedloom.reporting.suspects import suspects
from fedloom.runs.load import RunFiles
from fedloom.tasks import client_word
from fedloom.watch.views import COLOURS, View, chart, charts, line, rounded, section, table

Sums = dict[tuple[int, str], dict[str, float]]  # (round, client) -> bytes up and down, answers, seconds at work

SCORE_COLOURS = {  # those of the report's plots
    "image_accuracy": "blue",
    "text_accuracy": "vermillion",
    "pair_recall": "purple",
    "joint_accuracy": "blue",
    "t2i_accuracy": "green",
    "clip_score": "purple",
    "fid": "sky",
    "inception_score": "orange",
}
LABEL_LINES = (  # key, name, colour
    ("prompt_accuracy", "prompt, all", "muted"),
    ("voted_accuracy", "vote, all", "blue"),
    ("kept_accuracy", "vote, kept", "green"),
    ("dropped_accuracy", "vote, dropped", "vermillion"),
    ("kept_share", "share kept", "orange"),
)


def add_message(sums: Sums, row: Row) -> None:
    """Add a line of the ledger to the sums of its round and client."""
    found = sums.setdefault((row["round"], str(row.get("client", ""))), dict.fromkeys(("up", "down", "took"), 0.0))
    if row.get("counted", True):
        found[row["direction"]] += row["encoded_bytes"]
        if row["direction"] == "up":
            found["took"] += row.get("seconds") or 0.0


def head(run: RunFiles, state: str) -> View:
    """Title, state, and facts in a line."""
    found = report_head(run)
    facts = [*found["facts"], *([f"in {second_text(total)}"] if (total := _total_seconds(run)) else [])]
    if state == "stopped":
        facts.append(f"no process of this machine is at it; go on with: fedloom run --resume {run.path}")
    return {"title": found["name"], "state": state, "facts": facts, "folder": str(run.path)}


def _total_seconds(run: RunFiles) -> float | None:
    return number((run.summary.get("seconds") or {}).get("total"))


def cards(run: RunFiles) -> list[View]:
    """The scores: before, now, change, and a small curve."""
    made = []
    for card in report_head(run)["cards"]:
        made.append(
            {
                **{key: card[key] for key in ("name", "before", "after", "note")},
                "change": card["change"].text,
                "better": card["change"].css,
                "curve": [rounded(value) for value in card["curve"]],
            }
        )
    return made


def sections(run: RunFiles, sums: Sums, log: list[str]) -> list[View | None]:
    """All parts below the scores, in their order; those that the run has nothing for are None."""
    rows = run.rounds
    notes = run.summary.get("data_notes")
    return [
        section("Over the rounds", "Thick: the mean. Thin: each client.", charts=_score_charts(run)),
        _pictures(run),
        section(
            "What the vote does to the labels",
            "By the judge: how often the prompt and the vote name what a picture shows.",
            charts=charts(chart("Accuracy of labels", [_label(rows, *look) for look in LABEL_LINES], "share")),
        ),
        section("Clients", _answered(run), table=table(_clients(run, sums))),
        section("Answers that did not come", "The rounds went on without these.", table=table(_missing(rows))),
        section(
            "How the clients' answers compare",
            "A client stands out where a figure is unlike the others': a hint, no proof.",
            table=table(suspects(run)),
        ),
        section("What crossed the wire", _crossed(rows), charts=_byte_charts(rows)),
        section("Time", "", charts=_time_charts(run, sums)),
        section("Privacy spent", "", table=table(budget_table(rows))),
        section("Losses, and what the method reports", "", charts=_loss_charts(rows), table=_facts(run)),
        section("The data", "Noticed as they were read; nothing was changed.", bullets=notes),
        section("Log", "", lines=log),
    ]


def _score_charts(run: RunFiles) -> list[View]:
    made = []
    for i, score in enumerate(told(run.summary)):
        colour = SCORE_COLOURS.get(score.key, COLOURS[i % len(COLOURS)])
        mean = line(run.rounds, *score.path, name="mean", colour=colour)
        if mean is None:
            continue
        thin = []
        for task, names in clients_of(run).items():
            if client_score(task) == score.key:
                thin = [line(run.rounds, "per_client", n, name=n, colour=colour, thin=True) for n in names]
        mean["name"] = "mean" if thin else score.name
        made.append(chart(score.heading, [*thin, mean], "share" if score.share else ""))
    return charts(*made)


def _label(rows: Sequence[Row], key: str, name: str, colour: str) -> View | None:
    return line(rows, "labels", key, name=name, colour=colour)


def _pictures(run: RunFiles) -> View | None:
    """Of each round that has some: its samples, what the vote did to its pictures, and that in words."""
    found: dict[int, View] = {}
    for kind, paths in (("samples", run.samples), ("labels", run.label_panels)):
        for path in paths:
            found.setdefault(_number(path), {})[kind] = {"name": path.name, "mark": path.stat().st_mtime_ns}
    words = {int(row.get("round", 0)): _vote_text(row) for row in run.rounds}
    rounds = [{"round": n, "says": words.get(n, ""), **found[n]} for n in sorted(found)]
    note = (
        "The same prompts and noise in each round; and what the vote did to the pictures that were drawn for training."
    )
    return section("Pictures", note, pictures=rounds)


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _vote_text(row: Row) -> str:
    """What the vote did, for who cannot see the pictures."""
    labels = row.get("labels")
    if not isinstance(labels, Mapping):
        return ""
    shares = {key: number(labels.get(key)) for key in ("samples", "kept", "prompt_accuracy", "voted_accuracy")}
    parts = []
    if shares["samples"] is not None and shares["kept"] is not None:
        parts.append(f"{shares['kept']:.0f} of {shares['samples']:.0f} pictures kept")
    if shares["prompt_accuracy"] is not None and shares["voted_accuracy"] is not None:
        right = f"{shares['prompt_accuracy']:.0%} of the prompts and {shares['voted_accuracy']:.0%} of the votes"
        parts.append(f"{right} name what the judge sees")
    return "; ".join(parts)


def _clients(run: RunFiles, sums: Sums) -> Table:
    """Each client: its score, whether it answered in the last round, how long it was at work, its bytes."""
    rows, score = [], SCORES[0]  # all are shown as shares
    last = max((int(row.get("round", 0)) for row in run.rounds), default=0)
    failed = {str(m.get("client")): m for row in run.rounds[-1:] for m in row.get("missing") or ()}
    for task, names in clients_of(run).items():
        for name in names:
            values = series(run.rounds, "per_client", name)[1]
            before, now = (values[0], values[-1]) if values else (None, None)
            sent = sums.get((last, name)) or {}
            mean = [one["took"] for (round, client), one in sums.items() if client == name and round and one["up"]]
            rows.append(
                (
                    name,
                    client_word(task),
                    Cell(score.say(now), small=change(score, before, now)),
                    _answer(last, failed.get(name), sent),
                    *(second_text(took) if took else "–" for took in (sent.get("took"), _mean(mean))),
                    *(byte_text(sent.get(way)) for way in ("up", "down")),
                )
            )
    head = ("Client", "Holds", "Score", f"Round {last}", "At work", "Mean", "Up", "Down")
    return Table(head, rows, numbers=(2, 4, 5, 6, 7))


def _answer(round: int, failed: Row | None, sent: Mapping[str, float]) -> Cell:
    if failed is not None:
        return Cell(f"no: {failed.get('error', '?')}", "down")
    if not round:
        return Cell("not asked yet")
    return Cell("answered", "up") if sent.get("up") else Cell("not asked")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _answered(run: RunFiles) -> str:
    """How many did not answer in the last round."""
    if not run.rounds or not run.rounds[-1].get("round"):
        return ""
    missing = {str(m.get("client")) for m in run.rounds[-1].get("missing") or ()}
    return f"Not heard in the last round: {', '.join(sorted(missing))}." if missing else "All that were asked answered."


def _missing(rows: Sequence[Row]) -> Table:
    keys = ("client", "verb", "error", "detail")
    found = [(row.get("round", ""), *(m.get(k, "") for k in keys)) for row in rows for m in row.get("missing") or ()]
    return Table(("Round", "Client", "Verb", "Error", "Detail"), found[:-51:-1])  # the newest first


def _crossed(rows: Sequence[Row]) -> str:
    up, down = (sum(series(rows, key)[1]) for key in ("bytes_up", "bytes_down"))
    return f"{byte_text(up)} left the clients and {byte_text(down)} came to them so far." if up or down else ""


def _byte_charts(rows: Sequence[Row]) -> list[View]:
    active = [row for row in rows if row.get("bytes_up") or row.get("bytes_down")]
    up = line(active, "bytes_up", name="up, from all clients", colour="blue")
    down = line(active, "bytes_down", name="down, to all clients", colour="orange")
    return charts(chart("Bytes a round, up", [up], "bytes"), chart("Bytes a round, down", [down], "bytes"))


def _time_charts(run: RunFiles, sums: Sums) -> list[View]:
    rows = [row for row in run.rounds if row.get("round")]
    phases = dict.fromkeys(name for row in rows for name in row.get("seconds") or ())
    by_phase = [line(rows, "seconds", p, name=p, colour=COLOURS[i % len(COLOURS)]) for i, p in enumerate(phases)]
    at_work: dict[str, list[Row]] = {}
    for (round, client), one in sorted(sums.items()):
        if round > 0 and one["took"]:
            at_work.setdefault(client, []).append({"round": round, "took": one["took"]})
    by_client = [
        line(found, "took", name=client, colour=COLOURS[i % len(COLOURS)], thin=len(at_work) > len(COLOURS))
        for i, (client, found) in enumerate(at_work.items())
    ]
    return charts(
        chart("Seconds a round, by phase", by_phase, "seconds"),
        chart("Seconds a round at work, by client", by_client, "seconds"),
    )


def _loss_charts(rows: Sequence[Row]) -> list[View]:
    names = dict.fromkeys(name for row in rows for name in row.get("losses") or ())
    made = [
        chart(f"Loss: {name}", [line(rows, "losses", name, name=name, colour=COLOURS[i % len(COLOURS)])])
        for i, name in enumerate(names)
    ]
    return charts(*made)


def _facts(run: RunFiles) -> View | None:
    told_facts = method_facts(run.rounds, kinds_of(run.rounds))
    return table(
        Table(("Fact", "Last", "What it says"), [(t, last, why) for t, last, _, why in told_facts], numbers=(1,))
    )
