"""The JSON files of a run, as far as they are counted, drawn or shown; further keys are allowed.

A file is checked where it is read: numbers are finite, scores of a size that can be drawn, groups are groups.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic's own; that of Python 3.11 cannot be checked

from fedloom.config.trees import plainly
from fedloom.errors import BadInput

OPEN = ConfigDict(extra="allow", strict=True)

Count = Annotated[int, Field(ge=0, lt=2**53)]  # whole in a float too
Number = Annotated[float, Field(allow_inf_nan=False, gt=-1e30, lt=1e30)]
Loss = Annotated[float, Field(allow_inf_nan=False)]  # as large as training makes it: drawn at 1e30 at most
Losses = dict[str, Loss | None] | None
Round = Annotated[int, Field(ge=0, lt=2**31)]
Numbers = dict[str, Number | None] | None
Figures = dict[str, Number | list[Number | None] | None] | None  # some with a number a class


@with_config(OPEN)
class Missed(TypedDict, total=False):
    """An answer that did not come."""

    client: str
    verb: str
    error: str
    detail: str


@with_config(OPEN)
class RoundRow(TypedDict, total=False):
    """A line of metrics.jsonl; scores are numbers or null."""

    round: Round
    bytes_up: Count
    bytes_down: Count
    formula_up: Number | None
    formula_down: Number | None
    per_client: Numbers
    per_class: dict[str, list[Number | None] | None] | None
    labels: Figures
    losses: Losses
    tested: dict[str, Count] | None
    seconds: Numbers
    facts: Losses
    vote_budget: Losses
    by_group: dict[str, Numbers] | None
    retrieval: dict[str, Numbers] | None
    missing: list[Missed] | None
    participants: dict[str, list[str]] | None
    peers: dict[str, Number | str | None] | None


@with_config(OPEN)
class Sent(TypedDict):
    """A field of a message in the ledger."""

    name: str
    dtype: NotRequired[str]
    shape: NotRequired[list[Count]]
    bytes: Count


@with_config(OPEN)
class LedgerRow(TypedDict):
    """A line of ledger.jsonl."""

    round: Annotated[int, Field(ge=-1, lt=2**31)]
    direction: Literal["up", "down"]
    client: NotRequired[str]
    to: NotRequired[str]
    verb: NotRequired[str]
    message: NotRequired[str]
    fields: NotRequired[list[Sent]]
    payload_bytes: Count
    encoded_bytes: Count
    counted: bool
    kept: NotRequired[str]
    seconds: NotRequired[Annotated[float, Field(allow_inf_nan=False, ge=0)] | None]


@with_config(OPEN)
class Ends(TypedDict, total=False):
    """A score before the first round and after the last."""

    before: Number | None
    after: Number | None
    per_client: Numbers


@with_config(OPEN)
class TestSet(TypedDict, total=False):
    """How many samples a score is taken on, and the accuracy of a guess."""

    samples: Count | None
    chance: Annotated[float, Field(ge=0, le=1)] | None


@with_config(OPEN)
class Warned(TypedDict, total=False):
    """A warning on a run; see `health`."""

    name: str
    level: str
    message: str
    advice: str


@with_config(OPEN)
class Summary(TypedDict, total=False):
    """summary.json; of its scores, each an `Ends`, those that have clients of their own."""

    method: str
    data: str
    seed: Count
    rounds: Round
    clients: dict[str, list[str]]
    image_accuracy: Ends | None
    text_accuracy: Ends | None
    pair_recall: Ends | None
    joint_accuracy: Ends | None
    labels: Figures
    class_names: list[str]
    test_sets: dict[str, TestSet] | None
    warnings: list[Warned]
    by_group: dict[str, dict[str, Ends]] | None
    peers: dict[str, Ends] | None
    retrieval: dict[str, Numbers] | None
    bytes_up: Count
    bytes_down: Count
    seconds: Numbers
    peak_memory_bytes: Count
    peak_device_bytes: dict[str, Count]
    judge: Numbers
    networks: dict[str, str] | None
    version: str


Interval = Annotated[list[Number], Field(min_length=3, max_length=3)]  # a figure and its interval
Part = Annotated[float, Field(ge=0, le=1)]  # a share


@with_config(OPEN)
class Attack(TypedDict, total=False):
    """What a membership attack reached. roc: false and true positives."""

    auc: Interval
    advantage: Interval
    tpr_1: Interval
    tpr_01: Interval
    roc: list[Annotated[list[Part], Field(min_length=2, max_length=2)]]


@with_config(OPEN)
class Membership(TypedDict, total=False):
    """Membership inference on a client."""

    loss: Attack
    ratio: Attack


@with_config(OPEN)
class GuessedShares(TypedDict, total=False):
    """Label inference on a client."""

    l1: Number
    truth: list[Part]
    estimate: list[Part]


@with_config(OPEN)
class AttackedClient(TypedDict, total=False):
    """What the attacks on a client found."""

    membership: Membership
    reconstruction: dict[str, Number | str | None]
    labels: GuessedShares


@with_config(OPEN)
class AuditTold(TypedDict, total=False):
    """audit.json."""

    format: Count
    mechanisms: list[str]
    clients: dict[str, AttackedClient]
    canaries: dict[str, Number | str | None]


@with_config(OPEN)
class Environment(TypedDict, total=False):
    """environment.json."""

    run: str
    command: str
    started: str
    packages: dict[str, str | None]
    config: str | None
    data: str | None
    weights: dict[str, str] | None
    code: dict[str, str] | None


@with_config(OPEN)
class SplitCounts(TypedDict, total=False):
    """split.json: of each client how many samples of each class."""

    classes: list[str]
    clients: dict[str, list[Count]]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # made when first needed: that takes milliseconds


def check(kind: Any, value: Any, place: str) -> None:
    """Raises BadInput where `value` is no `kind`: one line with place, key, value and what is expected."""
    try:
        if kind not in _ADAPTERS:
            _ADAPTERS[kind] = TypeAdapter(kind)
        _ADAPTERS[kind].validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part)[:60] for part in first["loc"])
        wrong = "" if first["type"] == "missing" else f" = {str(first['input'])[:60]!r}"
        raise BadInput(f"{place}: {key}{wrong}: {plainly(first)}") from None


def check_split(split: dict[str, Any], place: str) -> None:
    """check, and that each client has a count for each class."""
    check(SplitCounts, split, place)
    classes, clients = split.get("classes", []), split.get("clients", {})
    for client, counts in clients.items():
        if len(counts) != len(classes):
            raise BadInput(f"{place}: {client[:60]!r} has {len(counts)} counts, expected {len(classes)}, one a class")
