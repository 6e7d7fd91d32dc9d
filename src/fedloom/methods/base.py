"""What every method is made of: a client, a server, messages, settings.

A client works with what its site gives it (`ClientContext`): model, data, training, random streams. A server works with
its `ServerContext`, the federation and its own state. Neither sees an engine, a data set or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.config import ClientsSettings
from fedloom.config.models import Frozen
from fedloom.errors import LONGEST, BadInput, FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.messages import Count, Empty, Share
from fedloom.federation.messages import Tensor as Wire
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.graph import Peers
from fedloom.methods.state import Kept, Stateful
from fedloom.methods.workload import Workload
from fedloom.registry import METHODS
from fedloom.seeding import numpy_stream, torch_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask, Modality


@dataclass(frozen=True)
class Scores:
    """Reply to `evaluate`: the score on the common test set of the client's modality, and the set's size.

    accuracy: of a classifier; of a client of pairs the mean of R@1 both ways. recalls: of a client of pairs, those of
    `metrics.retrieval.TERMS` on all pictures; folded: the same on folds of `fold` pictures, where there are such.
    groups: accuracy by group (G,) where the test set has such, NaN of one without samples.
    privacy: what a private client has spent, as `privacy.accounting.TERMS` names it, NaN where it has no such budget.
    """

    accuracy: Share
    samples: Count
    recalls: Annotated[NDArray[Any], Wire("float64", (6,), low=0, high=1)] | None = None
    folded: Annotated[NDArray[Any], Wire("float64", (6,), low=0, high=1)] | None = None
    fold: Count | None = None
    groups: Annotated[NDArray[Any], Wire("float64", ("G",), finite=False, low=0, high=1)] | None = None
    privacy: Annotated[NDArray[Any], Wire("float64", (8,), finite=False, low=0, high=2**31 - 1)] | None = None


@dataclass(frozen=True)
class Done:
    """Reply to an order to train: the mean loss (nats)."""

    loss: float


@dataclass(frozen=True)
class TrainOrder:
    """Order to take `steps` steps on private data."""

    steps: Count


# Verbs every method answers. They carry no knowledge and do not count as communication.
COMMON_VERBS: Mapping[str, tuple[type, type]] = {"evaluate": (Empty, Scores), "train": (TrainOrder, Done)}
UNCOUNTED = frozenset(COMMON_VERBS)


class Client(Stateful):
    """A client: answers the verbs of its method. This one only trains alone and is scored."""

    context: Kept[ClientContext]

    def __init__(self, context: ClientContext, settings: Any) -> None:
        self.context, self.settings = context, settings

    def evaluate(self, message: Empty, *, round: int) -> Scores:
        """The client's own task on the common test set."""
        return Scores(**self.context.score(self.represent(self.context.test)))

    def represent(self, inputs: Inputs) -> Tensor:
        """z (N, D), what the client's task is done with; without gradient."""
        return self.context.encode(inputs)

    def train(self, message: TrainOrder, *, round: int) -> Done:
        """Private steps only."""
        return Done(self.train_private(message.steps, round) or 0.0)

    def train_private(self, steps: int, *names: object) -> float | None:
        """`steps` steps of `task_loss` on the site's own data; mean loss."""
        return self.context.fit(self.context.private, steps, self.task_loss, *names, "private")

    def task_loss(self, inputs: Inputs, index: Tensor) -> Tensor:
        """The loss of the client's own task on private samples `index` (B,), seen as `inputs`."""
        return self.context.task_loss(inputs, index)

    def export(self, folder: Path) -> None:
        """Write the model into `folder`, where the context knows how."""
        if self.context.export is not None:
            self.context.export(folder)


@dataclass(frozen=True)
class ServerContext:
    """What a server half may use. A method that needs none of a kind never touches it."""

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    width: int
    seed: int
    rounds: int
    timeout: float | None = None
    quorum: int | None = None
    generator: Any = None
    captioner: Any = None
    features: Callable[[NDArray[np.uint8]], Tensor] | None = None  # a frozen picture encoder's vectors (N, D)
    classify: Callable[[NDArray[np.uint8]], Tensor] | None = None  # zero-shot, by the server's CLIP: (N, C)
    truth: Callable[[NDArray[np.uint8]], NDArray[np.int64]] | None = (
        None  # the judge's labels (N,): of `oracle` methods
    )
    real: Any = None  # labelled real pictures: for the centralised upper bound only
    pairs: Any = None  # all image-text clients' pairs, pooled: of `oracle` methods only
    public: Any = None  # pairs of picture and text that no client holds
    modalities: tuple[ClientTask, ...] = ()  # of the clients
    new_classes: Mapping[int, int] = field(default_factory=dict)  # class -> its first round, where that is not 1
    new_kinds: Mapping[str, Mapping[Modality, int]] = field(default_factory=dict)  # client -> kind -> its first round
    models: Callable[[ClientTask], ClientContext] | None = None  # a task model of the server's own, with no data
    secret: bool = False  # whether clients are real silos, who may not be able to compute what noise hides

    def gaining(self, t: int) -> list[str]:
        """The clients that have a second kind of data from round t on."""
        return [client for client, kinds in self.new_kinds.items() if t in kinds.values()]

    def classes_at(self, t: int) -> NDArray[np.int64]:
        """The classes that are there in round t."""
        return np.array([c for c in range(len(self.class_names)) if self.new_classes.get(c, 1) <= t], dtype=np.int64)

    def rng(self, *names: object) -> np.random.Generator:
        """The server's NumPy stream called `names`."""
        return numpy_stream(self.seed, "server", *names)

    def draws(self, *names: object) -> torch.Generator:
        """The server's torch stream called `names`."""
        return torch_stream(self.seed, "server", *names)


@dataclass(frozen=True)
class LabelInfo:
    """A round's synthetic samples and what became of their labels. voted: -1 where nobody voted."""

    images: NDArray[np.uint8]  # (S, H, W, 3)
    captions: tuple[str, ...]
    drawn: NDArray[np.int64]  # (S,) the class each was prompted with
    voted: NDArray[np.int64]  # (S,)
    kept: NDArray[np.bool_]  # (S,)
    votes: NDArray[np.int64] | None = None  # (S,) raw votes for the voted label

    def __post_init__(self) -> None:
        S = len(self.images)
        for name in ("drawn", "voted", "kept", "votes"):
            shape = getattr(getattr(self, name), "shape", None)
            if shape != (S,) and not (name == "votes" and self.votes is None):
                raise BadInput(f"LabelInfo.{name} has the shape {shape}, expected ({S},), one value a picture")


@dataclass(frozen=True)
class Standing:
    """How one client's answers of a round compare with the others'; None: not measured. It is a hint, no proof.

    norm: of what it sent. agreement: share of its labels that most others give too, or a cosine. distance: from the
    middle of the others. stands_out: those of the three that are unlike the others'. left_out: its answers are not
    used any more.
    """

    norm: float | None
    agreement: float | None
    distance: float | None
    stands_out: tuple[str, ...] = ()
    left_out: bool = False


@dataclass(frozen=True)
class Info:
    """What a reader of the run wants to know of a round. BadInput for what is no number: no folder could hold it."""

    labels: LabelInfo | None = None
    losses: Mapping[str, float | None] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    formula: tuple[int, int] | None = None  # the paper's bytes up and down, where it gives a formula
    facts: Mapping[str, float | None] = field(default_factory=dict)  # of the method's inner life, for people
    suspects: Mapping[str, Standing] = field(default_factory=dict)  # by client, of all whose answers were used
    vote_budget: Mapping[str, float | None] = field(default_factory=dict)  # privacy that noisy votes have cost

    def __post_init__(self) -> None:
        for group in ("losses", "seconds", "facts", "vote_budget"):
            given = getattr(self, group)
            if not isinstance(given, Mapping):
                raise BadInput(f"Info.{group} = {_shown(given)}, expected a mapping of names to numbers")
            numbers = {name: _number(value, f"Info.{group}[{name!r}]") for name, value in given.items()}
            object.__setattr__(self, group, numbers)
        if self.formula is not None:
            if not isinstance(self.formula, Sequence) or len(self.formula) != 2:
                raise BadInput(f"Info.formula = {_shown(self.formula)}, expected two numbers, bytes up and down")
            up, down = (_number(value, "Info.formula") for value in self.formula)
            object.__setattr__(self, "formula", (up, down))
        told = self.suspects.values() if isinstance(self.suspects, Mapping) else [self.suspects]
        if not all(isinstance(value, Standing) for value in told):
            raise BadInput(f"Info.suspects = {_shown(self.suspects)}, expected a Standing by client")
        if not isinstance(self.labels, LabelInfo | None):
            raise BadInput(f"Info.labels = {_shown(self.labels)}, expected a LabelInfo")


def _number(value: Any, place: str) -> float | None:
    """A number of Python's, NumPy's or torch's as Python's."""
    plain = value.tolist() if isinstance(value, np.generic | np.ndarray | Tensor) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float | None):
        raise BadInput(f"{place} = {_shown(value)}, expected a number")
    return plain


def _shown(value: Any) -> str:
    return repr(value)[:LONGEST]


class Server(Stateful):
    """A server: `round` is one round of the method; what must survive a crash is declared `Kept`."""

    say: Mapping[str, float] | None = None  # of a peer's half: the weight of each client it hears (`methods.gossip`)

    def __init__(self, context: ServerContext, settings: Any) -> None:
        self.context, self.settings = context, settings

    def round(self, federation: Federation) -> Info:
        """Do round `federation.round` (1-based)."""
        raise FedloomError(f"{type(self).__name__} has no round")

    @classmethod
    def workload(cls, settings: Any, batch: int) -> Workload | None:
        """What a round takes where clients' batches have `batch` samples; None: not declared, and a plan says so."""
        return None

    def embed(self, modality: Modality, samples: Any) -> Tensor | None:
        """Representations (N, D) by a model of the server's own, which is then scored by retrieval; None: it has none.

        samples: pictures uint8 (N, H, W, 3) or N texts, as `modality` says.
        """
        return None

    def shared_model(self) -> ClientContext | None:
        """A client without data around the model that multimodal clients share, to be scored; None: they share none."""
        return None


def one_round(server: Server, federation: Federation, method: str) -> Info:
    """A server's `round`; method: its name.

    Raises:
        FedloomError: it does or returns what it may not. The run has begun, so no BadInput leaves this.
    """
    try:
        info: Any = server.round(federation)
    except BadInput as error:
        raise FedloomError(f"method {method}: {error}") from error
    if not isinstance(info, Info):
        raise FedloomError(f"method {method}: {type(server).__name__}.round returned {_shown(info)}, expected Info")
    return info


@dataclass(frozen=True)
class Method:
    """A method: its settings, its two halves, and its wire contract as a function of the settings."""

    name: str
    settings: type[Frozen]
    client: type[Client]
    server: type[Server]
    verbs: Callable[[Any], Mapping[str, tuple[Any, Any]]]
    # Tools beyond the federation, of generator, captioner, features, classify, real, pairs, public, models; or a
    # function of the settings that says which.
    uses: frozenset[str] | Callable[[Any], frozenset[str]] = frozenset()
    tasks: frozenset[ClientTask] = frozenset(SINGLE_MODALITY)  # of its clients; none: a server on its own
    # Whether clients of pictures and of texts need the same classes, or each task may have its own.
    label_space: Literal["shared", "per task"] = "shared"
    oracle: bool = False  # a bound, no method: its server knows what no server may
    optimizers: tuple[str, ...] = ("adamw", "sgd")  # of the clients
    client_uses: frozenset[str] = frozenset()  # what a client half is given besides; server: models like the server's
    resolve: Callable[[Any, Sequence[str]], Any] = lambda settings, modalities: (
        settings
    )  # settings for these modalities
    # The clients' models that the method is defined on, in place of the configured ones.
    models: Callable[[Any, ClientsSettings], ClientsSettings] = lambda settings, clients: clients
    # The method's own parts on a client's warm-started model.
    wrap_model: Callable[[nn.Module, Any], nn.Module] = lambda model, settings: model
    # The client class that uses private samples in private steps only and sends what is made of the model alone; and
    # how many such steps it takes a round at most, of settings and batch (BadInput for settings by which it tells
    # more). None, or of another class than `client`: `clients.privacy` is refused.
    private_steps: tuple[type[Client], Callable[[Any, int], int]] | None = None
    # How peers do without a server; None, or of another server half than `server`: they cannot, and why.
    peers: Peers | None = None
    needs_server: str = "it does not declare how (Method.peers)"
    # What `fedloom methods` lists; of built-in methods the catalogue has it, which imports none.
    summary: str = ""
    paper: str = ""
    down: str = ""  # what the server sends
    up: str = ""  # what the clients send
    preset: str = ""  # whose data set and clients are taken where none are named; "": the usual ones
    training: Mapping[str, Any] = field(default_factory=dict)  # of clients: what it is defined on

    def needs(self, settings: Any) -> frozenset[str]:
        """The tools that the server half is given."""
        return self.uses if isinstance(self.uses, frozenset) else self.uses(settings)

    @property
    def private_work(self) -> Callable[[Any, int], int] | None:
        """Counts `private_steps`; None where its clients are not those that they were declared for, but derived."""
        return self.private_steps[1] if self.private_steps and self.private_steps[0] is self.client else None

    @property
    def modalities(self) -> str:
        """The tasks that clients may have, with commas between."""
        return ", ".join(task for task in ClientTask if task in self.tasks) or "server only"

    def contract(self, settings: Any) -> WireContract:
        """What may cross the wire. Raises BadInput for a verb that its clients have no method for."""
        verbs = self.verbs(settings)
        for verb in verbs if self.tasks else ():
            if not callable(getattr(self.client, verb, None)):
                raise BadInput(
                    f"method {self.name}: verb {verb!r} needs a method {self.client.__name__}.{verb}(message, *, round)"
                )
        return WireContract({**COMMON_VERBS, **verbs}, common=COMMON_VERBS.keys() - verbs.keys())


def load_method(name: str) -> tuple[Method, dict[str, Any]]:
    """The method of that name or reference, and the settings that its name stands for.

    Raises:
        BadInput: no such method; offers the nearest name.
    """
    method: Method = METHODS.find(name)
    return method, dict(getattr(METHODS.about(name), "fixed", {}))
