"""How the run was done: too short to learn anything, once only, without some clients, with losses that do not fall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.reporting.budgets import spent_by_client, spent_on_votes
from fedloom.reporting.health.facts import Facts, Row, RunWarning, listing
from fedloom.reporting.scores import number, series

# The embedded server models need hundreds of steps; after fewer than this, random weights have hardly moved.
FEW_STEPS = 50
# Steps times batch. The defaults show a client 20 000 samples before round 1; the preset smoke 800 in a whole run.
FEW_SAMPLES = 2000
CLIENT_STEPS = (
    "private_steps",
    "extra_steps",
    "retrain_steps",
    "shared_steps",
)  # settings of methods, a round
# Of the first round's. A mean over a round's steps moves by a few percent as batches and targets change.
LOSS_ROSE = 1.2
# Of their mean: losses of all rounds closer together than this are those of weights that do not move.
LOSS_FLAT = 0.005
ELSEWHERE = ("restart", "join", "rewind")  # no requests of the method's
FLAT_ROUNDS = 3  # two rounds alike may be chance

# What is pretrained, the scores that show that a run had it, and the setting that says how long.
PRETRAINED = (
    ("judge", "evaluation.judge", ("t2i_accuracy",)),
    ("generator", "server.generator", ("t2i_accuracy",)),
    ("CLIP", "server.clip", ("clip_score",)),
)


def too_few_steps(f: Facts) -> RunWarning | None:
    """Models that begin with random weights and are trained for a handful of steps, as with the preset smoke."""
    short = []
    for name, path, scores in PRETRAINED:
        steps, given = number(f.setting(f"{path}.steps")), f.setting(f"{path}.pretrained")
        if steps is not None and steps < FEW_STEPS and not given and any(f.after(s) is not None for s in scores):
            short.append(f"{name} {steps:.0f}")
    steps, batch = _client_steps(f), number(f.setting("clients.batch"))
    if steps is not None and batch is not None and steps * batch < FEW_SAMPLES:
        short.append(f"clients {steps:.0f} (batches of {batch:.0f})")
    if not short:
        return None
    return RunWarning(
        "too-few-steps",
        f"a handful of training steps from random weights: {listing(short)}",
        "--preset smoke only shows that everything works: for scores, leave it out or raise the steps.",
        "serious",
    )


def _client_steps(f: Facts) -> float | None:
    """Steps of a client over the whole run, of those that start from random weights; None where that is not known."""
    groups = [g for m in ("image", "text", "pair", "joint") for g in _list(f.setting(f"clients.{m}"))]
    settings, rounds = f.setting("settings"), number(f.setting("rounds"))
    warm = [number(f.setting(f"clients.{k}")) for k in ("public_steps", "warm_steps")]
    if not f.clients or not isinstance(settings, Mapping) or rounds is None or None in warm:
        return None
    if not groups or any(isinstance(g, Mapping) and g.get("pretrained") for g in groups):
        return None
    if "private_steps" in settings:
        own = [k for k in CLIENT_STEPS if k in settings]
    else:  # one that names them otherwise, such as a method from outside
        own = [k for k in settings if isinstance(k, str) and (k == "steps" or k.endswith("_steps"))]
    if not own:
        return None
    return sum(v or 0.0 for v in warm) + rounds * sum(number(settings[k]) or 0.0 for k in own)


def one_seed(f: Facts) -> RunWarning | None:
    """A run is one draw of split, weights and batches."""
    if not f.rows:
        return None
    method = f.setting("method")
    other = "METHOD" if method == "standalone" else method
    with_method = f" --methods standalone,{other}" if isinstance(method, str) else ""
    return RunWarning(
        "one-seed",
        "one seed cannot show that one method is better than another",
        f"fedloom compare{with_method} --seeds 0-4",
    )


def clients_missing(f: Facts) -> RunWarning | None:
    """Clients whose answers did not come."""
    rounds: Counter[str] = Counter()
    for row in f.rows:
        rounds.update({str(m["client"]) for m in _list(row.get("missing")) if isinstance(m, Mapping) and "client" in m})
    if not rounds:
        return None
    whole = max((int(number(row.get("round")) or 0) for row in f.rows), default=0)
    told = [f"{name} in {n} of {max(whole, n)} rounds" for name, n in rounds.most_common()]
    silent = sum(n >= whole for n in rounds.values())
    nobody = 0 < silent >= sum(map(len, f.clients.values()))
    return RunWarning(
        "clients-missing",
        f"clients did not answer: {listing(told)}",
        "Reasons are in the report; scores are means over the clients that answered.",
        "serious" if nobody else "caution",
    )


def privacy_spent(f: Facts) -> RunWarning | None:
    """Clients whose private training ended before the run did."""
    told = [f"{name} {left:.0f}" for name, left in _refused(f).items() if left]
    if not told:
        return None
    return RunWarning(
        "privacy-spent",
        f"privacy budgets were spent before the end; private steps not taken: {listing(told)}",
        "Give a larger clients.privacy.epsilon, or plan fewer rounds or private steps.",
    )


def _refused(f: Facts) -> dict[str, float]:
    """Private steps that were refused, by client, as last told."""
    return {k: number(v.get("refused")) or 0.0 for k, v in spent_by_client(f.rows).items()}


def votes_ended(f: Facts) -> RunWarning | None:
    """Noisy votes whose budget ended before the run did, or never sufficed for one."""
    told, t = spent_on_votes(f.rows), next((r.get("round") for r in f.rows if _refused_votes(r)), None)
    asked, refused = (number(told.get(key)) or 0.0 for key in ("asked", "refused"))
    if not refused:
        return None
    budget = number(told.get("budget"))
    within = f"epsilon = {budget:g}" if budget is not None else "it"
    return RunWarning(
        "votes-ended",
        f"the privacy budget of votes was spent in round {t}: {asked:.0f} samples asked about, {refused:.0f} not"
        if asked
        else f"the privacy budget of votes suffices for no sample: {within} is less than one costs, so none of "
        f"{refused:.0f} was asked about",
        "Give a larger settings.epsilon or settings.sigma_2, plan fewer samples, or have more clients: noise in votes "
        "costs less the more of them there are.",
        "caution" if asked else "serious",
    )


def _refused_votes(row: Row) -> bool:
    return bool(number(spent_on_votes([row]).get("refused")))


def sums_missing(f: Facts) -> RunWarning | None:
    """Rounds in which secure sums of parameters had nobody to add up: no client learned anything in them."""
    t, summed = series(f.rows, "facts", "summed")
    empty = [str(round) for round, clients in zip(t, summed) if not clients]
    if not empty:
        return None
    return RunWarning(
        "sums-missing",
        f"no secure sum was made in {len(empty)} of {len(t)} rounds, so nobody learned anything in them (round "
        f"{listing(empty)}): each client that took part was the only one of its architecture, or too few answered",
        "Have more clients of each architecture, or fewer of them away: the sum of one client is its parameters.",
        "serious" if len(empty) == len(t) else "caution",
    )


def clients_died(f: Facts) -> RunWarning | None:
    """Clients that could not do what they were asked in the last round; who was late, or not waited for, is none."""
    failed = [_failed(row) for row in f.rows]
    if not failed or not failed[-1]:
        return None
    told = []
    for name, (verb, why) in failed[-1].items():
        since = len(failed)
        while since and name in failed[since - 1]:
            since -= 1
        told.append(f"{name} since round {f.rows[since].get('round')} ({verb}: {why})")
    return RunWarning(
        "clients-died",
        f"clients failed up to the last round: {listing(told)}",
        "Their models learn no more, and scores are those of the others: see the report and the log for the reasons.",
        "serious",
    )


def _failed(row: Row) -> dict[str, tuple[str, str]]:
    """client -> what it failed at in a round, and how."""
    rows = [m for m in _list(row.get("missing")) if isinstance(m, Mapping)]
    told = [m for m in rows if m.get("error") in ("raised", "refused", "lost") and m.get("verb") not in ELSEWHERE]
    return {str(m.get("client")): (str(m.get("verb")), str(m.get("error"))) for m in told}


def loss_rose(f: Facts) -> RunWarning | None:
    """Losses that are higher in the last round than in the first."""
    told = []
    for name, values in _losses(f).items():
        if len(values) > 1 and values[0] > 0 and values[-1] > LOSS_ROSE * values[0]:
            told.append(f"{name} {values[0]:.3g} to {values[-1]:.3g}")
    if not told:
        return None
    return RunWarning(
        "loss-rose",
        f"training losses rose from the first round to the last: {listing(told)}",
        "Lower the rate, or see whether what is taught gets worse from round to round.",
    )


def loss_flat(f: Facts) -> RunWarning | None:
    """Losses that do not move."""
    told = []
    for name, values in _losses(f).items():
        mean = sum(map(abs, values)) / max(1, len(values))
        if len(values) >= FLAT_ROUNDS and mean > 0 and max(values) - min(values) < LOSS_FLAT * mean:
            told.append(f"{name} {values[-1]:.3g}")
    if not told:
        return None
    return RunWarning(
        "loss-flat",
        f"training losses do not move: {listing(told)}",
        "The rounds teach nothing, or everything was learned before them: raise the rate or the method's steps.",
    )


def _losses(f: Facts) -> dict[str, list[float]]:
    names = {n: None for row in f.rows if isinstance(row.get("losses"), Mapping) for n in row["losses"]}
    return {name: series(f.rows, "losses", name)[1] for name in names}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


CHECKS = (
    clients_died,
    clients_missing,
    sums_missing,
    privacy_spent,
    votes_ended,
    loss_rose,
    loss_flat,
    one_seed,
)
