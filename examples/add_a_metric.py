"""A metric of your own: the accuracy of the worst client. python add_a_metric.py

`fedloom run --set "evaluation.metrics=[add_a_metric.py:WORST_CLIENT]"` computes it too.
"""

from __future__ import annotations

import fedloom
from fedloom.metrics.base import Evaluation, Metric


def worst(evaluation: Evaluation) -> float:
    """The lowest of the clients' scores; `evaluation` also has the generated pictures and their prompts."""
    return min(evaluation.per_client.values())


WORST_CLIENT = Metric("worst_client", "Worst client", worst, unit="%", note="lowest accuracy of a client")

if __name__ == "__main__":
    smoke = {"base": {"preset": "smoke"}}
    found = fedloom.compare(
        ["fedmd", "standalone"], plan=smoke, evaluation={"metrics": [WORST_CLIENT]}, jobs=2, out="runs/own-metric"
    )
    for cell in found.cells:
        run = fedloom.load_run(found.path / cell["folder"])
        value = run.summary["metrics"]["worst_client"]
        print(f"{cell['row']:12} {value['before']:.3f} -> {value['after']:.3f}")
