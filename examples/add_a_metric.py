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
    metrics = {"metrics": [WORST_CLIENT]}
    smoke = {"base": {"preset": "smoke"}}
    print(fedloom.compare(["fedmd", "standalone"], plan=smoke, evaluation=metrics, jobs=2, out="runs/own-metric"))
