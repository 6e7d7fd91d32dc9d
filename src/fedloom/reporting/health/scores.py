"""Scores that say nothing: by a judge that cannot judge, at chance, on too few samples; or worse than before."""

from __future__ import annotations

from collections.abc import Mapping

from fedloom.reporting.health.bounds import beats_chance, error_of_change, half_width
from fedloom.reporting.health.facts import BY_KEY, Facts, RunWarning, listing, percent

# With a judge right less often than this, more than two of five of its verdicts on real pictures are wrong, and it does
# worse still on drawn ones: a change of T2I accuracy may be a change of its errors.
JUDGE_RIGHT = 0.6
# Half of a 95 % interval. Methods differ by a few points; a score known to 10 points only cannot tell them apart.
WIDE = 0.1
# CLIP score, FID and Inception score have no interval here; a change of less than this share may be noise.
WORSE_SHARE = 0.05
WORSE_POINTS = 0.02  # shares: a fall that the table shows but nobody would act upon is not worth a line

# Scores that are shares of right answers, the test set each is taken on, and of how many directions it is the sum.
SHARES = {
    "image_accuracy": ("image", 1),
    "text_accuracy": ("text", 1),
    "joint_accuracy": ("joint", 1),
    "pair_recall": ("pair", 1),
    "server_accuracy": ("server", 1),
    "server_recall": ("server", 2),
    "t2i_accuracy": ("generator", 1),
}
OTHERS = ("clip_score", "fid", "inception_score")


def judge_unreliable(f: Facts) -> RunWarning | None:
    """A judge that is wrong on real pictures says nothing about drawn ones."""
    right = f.told("judge", "real_test_accuracy")
    used = [key for key in ("t2i_accuracy", "fid", "inception_score") if f.after(key) is not None]
    if right is None or not (used or f.labels):
        return None
    samples, chance = f.told("judge", "real_test_samples"), f.told("judge", "chance")
    guesses = samples is not None and chance is not None and not beats_chance(right, int(samples), chance)
    if right >= JUDGE_RIGHT and not guesses:
        return None
    of = f"{samples:.0f} real test pictures" if samples else "the real test pictures"
    networks = f.summary.get("networks")
    own = not isinstance(networks, Mapping) or "judge" in str(networks.get("fid", "judge"))
    spoilt = ", ".join(["T2I accuracy", *(["FID", "Inception score"] if own else []), "label accuracies"])
    why = " (chance)" if guesses else ""
    return RunWarning(
        "judge-unreliable",
        f"the judge is right on {percent(right)} of {of}{why}; do not trust {spoilt}",
        "Raise evaluation.judge.steps, give it more real pictures, or set evaluation.judge.pretrained.",
        "serious",
    )


def clip_unreliable(f: Facts) -> RunWarning | None:
    """A CLIP that cannot tell the classes of real pictures apart scores nothing of use."""
    right, samples, chance = (f.told("clip", k) for k in ("real_test_accuracy", "real_test_samples", "chance"))
    if right is None or not samples or chance is None or f.after("clip_score") is None:
        return None
    if beats_chance(right, int(samples), chance):
        return None
    return RunWarning(
        "clip-unreliable",
        f"the scoring CLIP is right on {percent(right)} of {samples:.0f} real test pictures "
        f"(chance: {percent(chance)}); do not trust the CLIP score",
        "Raise evaluation.clip.steps or set evaluation.clip.pretrained.",
        "serious",
    )


def generator_at_chance(f: Facts) -> RunWarning | None:
    """A generator whose pictures the judge recognises as often as it would by guessing."""
    value, test = f.after("t2i_accuracy"), f.test_set("generator")
    if value is None or test is None or beats_chance(value, *test):
        return None
    return RunWarning(
        "generator-at-chance",
        f"the judge recognises {percent(value)} of {test[0]} generated pictures (chance: {percent(test[1])})",
        "Raise server.generator.steps or set server.generator.pretrained; its pictures teach clients nothing.",
        "serious",
    )


def clients_at_chance(f: Facts) -> RunWarning | None:
    """Clients that do no better than one that always says the commonest class; of pairs, than a random order."""
    found: dict[str, list[str]] = {}
    for modality, names in f.clients.items():
        if (test := f.test_set(modality)) is None:
            continue
        scored = {n: s for n in names if (s := f.of_client(n)) is not None}
        found[modality] = [n for n, (value, samples) in scored.items() if not beats_chance(value, samples, test[1])]
    low = [n for names in found.values() for n in names]
    if not low:
        return None
    whole = any(names and len(names) == len(f.clients[m]) for m, names in found.items())
    levels = [f"{m} {percent(test[1])}" for m, names in found.items() if names and (test := f.test_set(m))]
    clients = sum(map(len, f.clients.values()))
    return RunWarning(
        "clients-at-chance",
        f"{len(low)} of {clients} clients no better than chance ({', '.join(levels)}): {listing(low)}",
        "Raise clients.public_steps, clients.warm_steps or rounds, split less skewed (data.alpha), or give more data.",
        "serious" if whole else "caution",
    )


def server_at_chance(f: Facts) -> RunWarning | None:
    """A server's own or shared model at the level of guessing."""
    for key in ("server_accuracy", "server_recall"):
        value, test = f.after(key), f.test_set("server")
        if value is None or test is None:
            continue
        share = value / SHARES[key][1]
        if not beats_chance(share, *test):
            return RunWarning(
                "server-at-chance",
                f"{BY_KEY[key].name}: right on {percent(share)} of {test[0]} test samples (chance: {percent(test[1])})",
                "Raise rounds or the method's steps, or begin with pretrained models.",
                "serious",
            )
    return None


def few_test_samples(f: Facts) -> RunWarning | None:
    """Shares of so few samples that their intervals are wider than methods differ."""
    wide = []
    for key, (name, directions) in SHARES.items():
        value, test = f.after(key), f.test_set(name)
        if value is not None and test and (reach := half_width(value / directions, test[0])) > WIDE:
            wide.append(f"{BY_KEY[key].name} ±{100 * reach:.0f} points (n = {test[0]})")
    if not wide:
        return None
    return RunWarning(
        "few-test-samples",
        f"95 % intervals too wide to tell anything: {listing(wide)}",
        "Test on more samples (embedded data: data.options.test; generator: evaluation.prompts_per_class).",
        "serious",
    )


def score_worse(f: Facts) -> RunWarning | None:
    """Scores that are worse after the last round than before the first, by more than their noise."""
    fell = [text for key in (*SHARES, *OTHERS) if (text := _fall(f, key))]
    if not fell:
        return None
    return RunWarning(
        "score-worse",
        f"worse than before the first round: {listing(fell)}",
        "The rounds did harm there: look at the curves, try a lower rate or fewer local steps.",
    )


def _fall(f: Facts, key: str) -> str | None:
    """`Image clients 64.2% to 58.0%` where it fell by more than noise."""
    score, (before, after) = BY_KEY[key], f.ends(key)
    if before is None or after is None or not score.improved(after, before):
        return None
    if key in OTHERS:
        if abs(after - before) <= WORSE_SHARE * abs(before):
            return None
    else:
        name, directions = SHARES[key]
        # Both ends are scored on the same samples, so the true error is well below that of two independent draws: one
        # such error is more than noise.
        test = f.test_set(name)
        noise = error_of_change(before / directions, after / directions, test[0]) if test else 0.0
        if (before - after) / directions <= max(WORSE_POINTS, noise):
            return None
    return f"{score.name} {score.say(before)} to {score.say(after)}"


def not_finite(f: Facts) -> RunWarning | None:
    """Numbers that were NaN or infinite; rows hold null in their place, and their names beside."""
    where: dict[str, list[str]] = {}
    for row in f.rows:
        names = row.get("not_finite")
        for name in names if isinstance(names, list) else ():
            where.setdefault(str(name), []).append(str(row.get("round", "?")))
    if not where:
        return None
    told = [f"{name} (round {listing(rounds)})" for name, rounds in where.items()]
    return RunWarning(
        "not-finite",
        f"NaN or infinite: {listing(told)}",
        "Training broke down: lower the rate (clients.rate), clip gradients (clients.clip), or compute in fp32.",
        "serious",
    )


CHECKS = (
    judge_unreliable,
    generator_at_chance,
    clients_at_chance,
    server_at_chance,
    not_finite,
    few_test_samples,
    clip_unreliable,
    score_worse,
)
