"""What votes by noisy counts cost (fedmmkt-pate): epsilon of a round, by the number of clients. Nothing is trained.

python benchmarks/pate_cost.py --clients 8,40,100,250

Votes are made up: each client gives the right class with probability `--right`, else any other; quorum and noise are
the method's defaults. Right labels: share of those that are told.
"""

from __future__ import annotations

import argparse

import numpy as np

from fedloom.methods.fedmmkt_pate import SIGMA_1, SIGMA_2, PateSettings
from fedloom.methods.vote_budget import VoteBudget
from fedloom.privacy.pate import confident_gnmax

WAYS: dict[str, dict[str, object]] = {
    "any votes": {},
    "by the votes": {"accounting": "data-dependent"},
    "secure sums": {"secure": True},
}
HEAD = ("clients", "labelled", "of these right", *(f"{what}, {how}" for what in ("epsilon", "rounds") for how in WAYS))


def votes(clients: int, classes: int, samples: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """Counts (S, C), class 0 the right one."""
    shares = [right] + [(1 - right) / (classes - 1)] * (classes - 1)
    return rng.multinomial(clients, shares, samples).astype(np.float64)


def epsilon_after(rounds: int, clients: int, args: argparse.Namespace, **how: object) -> tuple[float, float, float]:
    """Epsilon, share of samples with a label, and share of these that are right."""
    sigma_1 = None if how.get("secure") else SIGMA_1 * clients
    settings = PateSettings(sigma_1=sigma_1, sigma_2=SIGMA_2 * clients, epsilon=1e12, delta=args.delta, **how)
    budget, rng, quorum = VoteBudget(settings), np.random.default_rng(0), settings.threshold * clients
    told = []
    for _ in range(rounds):
        counts = votes(clients, args.classes, args.samples, args.right, rng)
        if settings.secure:
            budget.reserve(len(counts))
            continue
        labels = confident_gnmax(counts, quorum, budget.sigma_1, budget.sigma_2, rng)
        told.append(budget.charged(counts, labels, quorum))
    labels = np.concatenate(told) if told else np.zeros(0, np.int64)
    kept = labels[labels >= 0]
    return budget.told()["epsilon"], len(kept) / max(len(labels), 1), float((kept == 0).mean()) if len(kept) else 0.0


def rounds_within(clients: int, args: argparse.Namespace, **how: object) -> int:
    """Whole rounds whose votes stay within `--epsilon`, of `--most` at most."""
    few, many = 0, args.most + 1
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if epsilon_after(middle, clients, args, **how)[0] <= args.epsilon else (few, middle)
    return few


def main() -> None:
    """A line for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="8,40,100,250")
    parser.add_argument("--samples", type=int, default=150, help="a round")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--right", type=float, default=0.9, help="how often a client is right")
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--most", type=int, default=20, help="rounds that are tried")
    args = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    ways = WAYS.values()
    for clients in map(int, args.clients.split(",")):
        plain, *others = (epsilon_after(1, clients, args, **how) for how in ways)
        cells = [f"{share:.0%}" for share in plain[1:]] + [f"{found[0]:.1f}" for found in (plain, *others)]
        counts = [rounds_within(clients, args, **how) for how in ways]
        cells += [f"{n} or more" if n == args.most else str(n) for n in counts]
        print(f"| {clients} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
