"""FedMMKT, its variants, ablations and the two ends it is compared with, over paired seeds; and the tables of them.

    python benchmarks/orderings.py run  --out runs/orderings --seeds 0,1,2,3,4 --jobs 2
    python benchmarks/orderings.py table --out runs/orderings

Every run is an ordinary `fedloom run` in a process of its own; a finished one is not done again. `--set` adds settings
to all of them, `--preset` starts all of them from a preset. Every seed pretrains server models of its own
(`server.seed`), so that deviations hold what pretraining adds; `--set server.seed=0` shares one pretraining.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

MANY = (  # the same samples over more clients of more architectures
    "[{arch: vit, patch: 6, count: 4}, {arch: beit, hidden: 48, patch: 6, count: 3}, {arch: resnet, count: 3}]",
    "[{arch: bert, count: 4}, {arch: distilbert, hidden: 48, count: 3}, {arch: roberta, count: 3}]",
)
ARMS: dict[str, list[str]] = {
    "fedmmkt": [],
    "standalone": ["method=standalone"],
    "standalone-local": ["method=standalone", "settings.extra_steps=0"],
    "self-prompt": ["method=self-finetune", "settings.data=prompt"],
    "self-caption": ["method=self-finetune", "settings.data=caption"],
    "self-representation": ["method=self-finetune", "settings.data=representation"],
    "-LabVote": ["settings.labvote=false"],
    "-both": ["settings.labvote=false", "settings.fusion=false"],
    "l-fedmmkt": ["method=l-fedmmkt"],
    "-MultiRepFusion": ["settings.fusion=false"],
    "-T2I_Rep": ["settings.omit=1"],
    "-Client_Rep": ["settings.kl_weight=0"],
    "u-fedmmkt": ["method=u-fedmmkt", "clients.text=[]"],
    "l-images": ["method=l-fedmmkt", "clients.text=[]"],
    "fedmmkt-10+10": [f"clients.image={MANY[0]}", f"clients.text={MANY[1]}"],
    "centralised": ["method=centralised"],
}
SCORES = {"I": "image_accuracy", "X": "text_accuracy", "G": "t2i_accuracy", "CS": "clip_score"}


def do(arm: str, seed: int, args: argparse.Namespace) -> str:
    """One run; returns what became of it."""
    place = Path(args.out) / f"{arm}-{seed}"
    if (place / "summary.json").exists():
        return f"{arm} {seed}: there already"
    options = [f"server.seed={seed}", *args.set, *ARMS[arm], f"seed={seed}"]
    every = [] if arm == "fedmmkt" else ["evaluation.every=1000"]  # only the first is also looked at round by round
    command = [sys.executable, "-m", "fedloom.cli", "run", "--quiet", "--overwrite", "--out", str(place)]
    command += ["--preset", args.preset] if args.preset else []
    command += [word for option in [*options, *every] for word in ("--set", option)]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"{arm} {seed}: {'done' if done.returncode == 0 else done.stderr.strip()[-300:]}"


def run(args: argparse.Namespace) -> None:
    """All arms and seeds, `--jobs` at a time; one that fails does not stop the others."""
    arms = args.arms.split(",") if args.arms else list(ARMS)
    jobs = [(arm, seed) for arm in arms for seed in seeds_of(args)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for n, said in enumerate(pool.map(lambda job: do(*job, args), jobs), 1):
            print(f"{n}/{len(jobs)} {said}", flush=True)


def seeds_of(args: argparse.Namespace) -> list[int]:
    """The seeds of the comparison."""
    return [int(s) for s in args.seeds.split(",")]


def collect(args: argparse.Namespace) -> dict[str, dict[str, np.ndarray]]:
    """Arm -> score -> after-values by seed; plus the untouched generator and the labels of round 1."""
    table: dict[str, dict[str, np.ndarray]] = {}
    for arm in ARMS:
        paths = [Path(args.out) / f"{arm}-{seed}" for seed in seeds_of(args)]
        if not all((p / "summary.json").exists() for p in paths):
            continue
        summaries = [json.loads((p / "summary.json").read_text()) for p in paths]
        moments = {arm: "after"} | ({"fedmmkt (before)": "before"} if arm == "fedmmkt" else {})  # all begin alike
        for row, when in moments.items():
            table[row] = {
                key: np.array([s[name][when] for s in summaries], float)
                for key, name in SCORES.items()
                if all(s[name][when] is not None for s in summaries)
            }
        rounds = [[json.loads(line) for line in (p / "metrics.jsonl").read_text().splitlines()] for p in paths]
        if arm == "fedmmkt":
            for key in (
                "prompt_accuracy",
                "voted_accuracy",
                "kept_accuracy",
                "dropped_accuracy",
                "kept_share",
            ):
                values = [[r["labels"][key] for r in run[1:]] for run in rounds]
                table[arm][f"{key} (round 1)"] = np.array([v[0] for v in values], float)
                table[arm][key] = np.array([np.mean([x for x in v if x is not None]) for v in values])
            for t in range(len(rounds[0])):
                table[f"fedmmkt, round {t}"] = {
                    k: np.array([run[t][name] for run in rounds], float)
                    for k, name in SCORES.items()
                    if rounds[0][t][name] is not None
                }
            up = [np.mean([r["bytes_up"] for r in run[1:]]) for run in rounds]
            down = [np.mean([r["bytes_down"] for r in run[1:]]) for run in rounds]
            table[arm] |= {"bytes_up": np.array(up), "bytes_down": np.array(down)}
    return table


def compare(a: np.ndarray, b: np.ndarray) -> str:
    """`mean difference (p)` of a paired one-sided test that a is above b."""
    if len(a) < 2 or np.allclose(a, b):
        return f"{np.mean(a - b):+.3f}"
    p = stats.ttest_rel(a, b, alternative="greater").pvalue
    half = stats.t.ppf(0.975, len(a) - 1) * np.std(a - b, ddof=1) / len(a) ** 0.5
    return f"{np.mean(a - b):+.3f} ± {half:.3f} (p = {p:.3f})"


def spread(values: np.ndarray) -> str:
    """The mean, and the deviation where there are several."""
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def tables(args: argparse.Namespace) -> None:
    """Print the tables as Markdown."""
    table = collect(args)
    if "fedmmkt" not in table:
        raise SystemExit(f"{args.out}: not every seed of {args.seeds} has a finished run fedmmkt-SEED")
    print("| row | I | X | G | CS |\n|---|---|---|---|---|")
    for arm, scores in table.items():
        cells = [spread(v) if (v := scores.get(k)) is not None else "" for k in SCORES]
        if not arm.startswith("fedmmkt, round"):
            print(f"| {arm} | {' | '.join(cells)} |")
    print("\n| difference, paired by seed | I | X | G | CS |\n|---|---|---|---|---|")
    for other in table:
        if other == "fedmmkt" or other.startswith("fedmmkt, round"):
            continue
        cells = [
            compare(table["fedmmkt"][k], table[other][k]) if k in table[other] and k in table["fedmmkt"] else ""
            for k in SCORES
        ]
        print(f"| FedMMKT minus {other} | {' | '.join(cells)} |")
    print("\n| round (samples so far) | I | X | G | CS |\n|---|---|---|---|---|")
    for arm, scores in table.items():
        if arm.startswith("fedmmkt, round") and scores:
            print(f"| {arm[15:]} | {' | '.join(f'{scores[k].mean():.3f}' for k in SCORES if k in scores)} |")
    print("\n| labels | round 1 | mean of all rounds |\n|---|---|---|")
    fed = table["fedmmkt"]
    for key, v in fed.items():
        if f"{key} (round 1)" in fed:
            first = fed[f"{key} (round 1)"].mean()
            print(f"| {key} | {first:.3f} | {spread(v)} |")
    print(
        "\nvoted minus prompt, round 1:",
        compare(fed["voted_accuracy (round 1)"], fed["prompt_accuracy (round 1)"]),
    )
    print(
        "kept minus dropped, round 1:",
        compare(fed["kept_accuracy (round 1)"], fed["dropped_accuracy (round 1)"]),
    )
    print("voted minus prompt, all rounds:", compare(fed["voted_accuracy"], fed["prompt_accuracy"]))
    print("kept minus dropped, all rounds:", compare(fed["kept_accuracy"], fed["dropped_accuracy"]))
    print("bytes a round, up and down:", fed["bytes_up"].mean(), fed["bytes_down"].mean())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", default="runs/orderings")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--arms", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--preset", default="")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    run(arguments) if arguments.what == "run" else tables(arguments)


if __name__ == "__main__":
    main()
