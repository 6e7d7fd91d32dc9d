"""What a method reports of its rounds, beside scores and losses: the `facts` of metrics.jsonl, as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedloom.reporting.scores import KIND_NAMES, Row, series

if TYPE_CHECKING:
    from fedloom.tasks import Modality


@dataclass(frozen=True)
class Fact:
    """title and meaning may name the {first} and the {last} kind of data; a share is shown in percent."""

    title: str
    meaning: str
    share: bool = False
    digits: str = ".2f"


FACTS = {
    "dominance": Fact(
        "Dominance",
        "How sure the shared model is of the right class by {first}, over how sure it is by {last}, on what the "
        "clients train on. Above 1 {first} dominate, below 1 {last}.",
    ),
    "led": Fact(
        "Batches led by {first}",
        "Share of the batches in which {first} were the dominant kind; in the others {last} were.",
        share=True,
    ),
    "flips": Fact(
        "Changes of the lead",
        "Share of the batches in which another kind was dominant than in the batch before.",
        share=True,
    ),
    "summed": Fact("Clients in a secure sum", "Whose parameters are in a mean of the round.", digits=".0f"),
    "weight_entropy": Fact(
        "Entropy of the fusion weights",
        "Of the weights by which clients' representations are fused, as a share of the logarithm of the number of "
        "clients: 1 is a plain mean, 0 a single client's representation.",
        digits=".3f",
    ),
    "alignment_error": Fact(
        "Alignment error",
        "Squared distance between the mean picture representation and the mean text representation, mean over "
        "synthetic samples.",
        digits=".3g",
    ),
    "client_drift": Fact(
        "Client drift",
        "Squared distance of a client's representations from the mean over clients, mean over samples and clients.",
        digits=".3g",
    ),
    "gradient_variance": Fact(
        "Gradient variance",
        "Variance over the round's mini-batches of the norm of the generator's gradient, before clipping.",
        digits=".3g",
    ),
}


def method_facts(rows: Sequence[Row], kinds: Sequence[Modality] = ()) -> list[tuple[str, str, list[float], str]]:
    """Title, last value, all values and meaning of each fact; of one that is not known, its key is the title.

    Args:
        rows: lines of `metrics.jsonl`.
        kinds: of data that a shared model was scored by.
    """
    held = [{"round": row.get("round", 0), **row["facts"]} for row in rows if isinstance(row.get("facts"), Mapping)]
    ends = (KIND_NAMES[kinds[0]][1], KIND_NAMES[kinds[-1]][1]) if kinds else ("the first kind", "the last")
    names = dict(zip(("first", "last"), ends))
    lines = []
    for key in dict.fromkeys(key for row in held for key in row if key != "round"):
        if values := series(held, key)[1]:
            known = FACTS.get(key)
            fact = known or Fact(key, "")
            title, meaning = (text.format(**names) if known else text for text in (fact.title, fact.meaning))
            text = f"{100 * values[-1]:.0f}%" if fact.share else f"{values[-1]:{fact.digits}}"
            lines.append((title, text, values, meaning))
    return lines
