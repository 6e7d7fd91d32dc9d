"""Small multimodal clients (two linear streams, a fusion head), and a federation of them with real messages.

Clients of pictures or of texts, `toy_sites`' own, may be among them. A method is named by what the catalogue would say,
"module:attribute", so that it need not be listed there.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from toy_sites import own_learner, private_of, words

from fedloom.data.joint import MultimodalSamples
from fedloom.federation.engines.local import LocalFederation
from fedloom.federation.host import ClientSpec
from fedloom.federation.ledger import Ledger
from fedloom.federation.messages import Empty
from fedloom.methods.base import UNCOUNTED, Method, ServerContext
from fedloom.methods.context import ClientContext
from fedloom.methods.multimodal_context import MultimodalContext
from fedloom.models.clients.multimodal import MultimodalClassifier
from fedloom.seeding import numpy_stream

BANDS, TIMES, SIDE, WIDTH, CLASSES, SAMPLES = 3, 4, 4, 6, 3, 18
MODALITIES = ("audio", "image")
BOTH, SOUND, SIGHT = ["audio", "image"], ["audio"], ["image"]
CLIENTS = {"a": BOTH, "b": BOTH, "c": SOUND, "d": SIGHT}
FEDAVG = "fedloom.methods.fedavg:METHOD"
FEDCMI = "fedloom.methods.fedcmi:METHOD"
STEPS = {"private_steps": 3, "extra_steps": 0}


class Tower(nn.Module):
    """A linear map with running statistics behind it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.width = WIDTH
        self.body, self.norm = nn.Linear(features, WIDTH), nn.BatchNorm1d(WIDTH)
        self.head: nn.Module = nn.Identity()

    def encode(self, pixel_values: Tensor) -> Tensor:
        return self.norm(self.body(pixel_values.flatten(1)))  # type: ignore[no-any-return]


def learner(fusion: str = "concat") -> MultimodalClassifier:
    """The same weights each time: multimodal clients start alike."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        towers = Tower(BANDS * TIMES), Tower(3 * SIDE**2)
        return MultimodalClassifier(towers, MODALITIES, CLASSES, fusion)


def joint_set(
    name: str, n: int = SAMPLES, owned: list[str] = BOTH, blanks: int = 0, classes: int = CLASSES
) -> MultimodalSamples:
    """n samples whose sounds tell the class loudly and whose frames tell it softly.

    owned: the kinds that are there. blanks: so many samples lack the first kind, as many others the second.
    """
    rng = numpy_stream(0, name)
    labels = np.arange(n, dtype=np.int64) % classes
    sounds = rng.normal(size=(n, BANDS, TIMES)).astype(np.float32)
    sounds[np.arange(n), labels % BANDS] += 2
    frames = rng.integers(0, 200, (n, 1, SIDE, SIDE, 3)).astype(np.uint8)
    frames[np.arange(n), 0, labels % SIDE] += 40
    whole = MultimodalSamples({"audio": sounds, "image": frames}, labels)
    missing = {k: np.full(n, k not in owned) for k in MODALITIES}
    missing["audio"][:blanks] = True
    missing["image"][blanks : 2 * blanks] = True
    return whole.lacking(missing)


def method_of(method: str) -> Method:
    """The method at "module:attribute"."""
    module, _, attribute = method.partition(":")
    found: Method = getattr(importlib.import_module(module), attribute)
    return found


def client(
    name: str,
    modality: str = "joint",
    method: str = FEDAVG,
    settings: dict[str, Any] | None = None,
    fault: str = "",
    optimizer: str = "sgd",
    momentum: float = 0.5,
    decay: float = 0.0,
    rate: float = 0.05,
    fusion: str = "concat",
    **data: Any,
) -> Any:
    """A client half. fault: a verb that it fails at. data: what `joint_set` takes."""
    kind = method_of(method)
    own = kind.settings(**{**STEPS, **(settings or {})})
    if modality == "joint":
        kind_of, parts = MultimodalContext, (joint_set(name, **data), joint_set("test"))
        model, tokens = learner(fusion), None
    else:
        kind_of, parts = (
            ClientContext,
            tuple(private_of(name, modality, part) for part in ("private", "test")),
        )
        torch.manual_seed(int(numpy_stream(0, name).integers(2**31)))
        model, tokens = own_learner(modality, (), False, CLASSES), words()
    site = kind_of(
        name=name,
        modality=modality,
        model=model,
        tokenizer=tokens,
        private=parts[0],
        test=parts[1],
        seed=0,
        batch=6,
        rate=rate,
        decay=decay,
        augment=False,
        optimizer=optimizer,
        momentum=momentum,
    )
    site.attach(lambda bare: kind.wrap_model(bare, own))
    half = kind.client(site, own)
    if fault:
        setattr(half, fault, _fail)
    return half


def _fail(message: Any, *, round: int) -> Any:
    raise RuntimeError("out of luck")


def server_learner(modality: str) -> MultimodalContext:
    """What multimodal clients start from, without data."""
    nothing = joint_set("none").subset([])
    return MultimodalContext(
        name="server-joint",
        modality="joint",
        model=learner(),
        tokenizer=None,
        private=nothing,
        test=nothing,
        seed=0,
    )


class Joint:
    """A server and its multimodal clients.

    Args:
        method: "module:attribute".
        clients: client -> the kinds of data that a joint one holds, or the modality of another.
        more: client -> more arguments of `client`.
        settings: of the method.

    Attributes:
        traffic: (round, client) -> the message down and the reply up, None where there was none.
    """

    def __init__(
        self,
        method: str = FEDAVG,
        clients: dict[str, Any] = CLIENTS,
        more: dict[str, dict[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        kind = method_of(method)
        self.settings = kind.settings(**{**STEPS, **settings})
        given = {"method": method, "settings": self.settings.model_dump(mode="json")}
        specs = []
        for name, held in clients.items():
            joint = not isinstance(held, str)
            modality = "joint" if joint else held
            data = {"owned": held} if joint else {}
            arguments = {"modality": modality, **given, **data, **(more or {}).get(name, {})}
            specs.append(ClientSpec(name, modality, "joint:client", arguments))
        self.ledger = Ledger(uncounted=UNCOUNTED)
        self.federation = LocalFederation(specs, kind.contract(self.settings), self.ledger)
        self.context = ServerContext(
            class_names=("iris", "rose", "tulip"),
            prompts=(),
            width=WIDTH,
            seed=0,
            rounds=3,
            modalities=("joint",),
            models=server_learner,
        )
        self.server: Any = kind.server(self.context, self.settings)
        self.traffic: dict[tuple[int, str], tuple[Any, Any]] = {}
        self._listen()

    def _listen(self) -> None:
        ask = self.federation.ask

        def listening(verb: str, messages: Any, **how: Any) -> Any:
            for reply in ask(verb, messages, **how):
                sent = messages[reply.client] if isinstance(messages, dict) else messages
                self.traffic[reply.round, reply.client] = sent, reply.message
                yield reply

        self.federation.ask = listening  # type: ignore[method-assign]

    def run(self, rounds: int = 2) -> list[Any]:
        """The rounds' infos."""
        infos = []
        for _ in range(rounds):
            self.federation.round += 1
            infos.append(self.server.round(self.federation))
        return infos

    def half(self, name: str) -> Any:
        """A client."""
        return self.federation._host._hosts[name].client

    def clients(self) -> dict[str, dict[str, Any]]:
        """Every client's state."""
        return {name: self.half(name).state()[0] for name in self.federation.clients}

    def go_on(self, from_: Joint) -> Joint:
        """Take up where another one stopped, from what it would have saved."""
        self.server.load_state(*from_.server.state())
        for name in from_.federation.clients:
            self.half(name).load_state(*from_.half(name).state())
        self.federation.round = from_.federation.round
        return self


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Equal names, equal bits."""
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)


def learned(half: Any) -> dict[str, np.ndarray]:
    """All floats of a client's learner."""
    state = half.context.model.state_dict()
    return {k: v.numpy().copy() for k, v in state.items() if v.dtype == torch.float32}


def resumes(method: str, clients: dict[str, Any] = CLIENTS, **settings: Any) -> None:
    """Three rounds are the same bits in any order of clients, and after a stop that falls between two."""
    more = {"a": {"blanks": 2}} if "a" in clients else {}
    whole = Joint(method, clients, more, **settings)
    whole.run(3)
    assert whole.federation.missing == []
    backwards = Joint(method, dict(reversed(clients.items())), more, **settings)
    backwards.run(3)
    broken = Joint(method, clients, more, **settings)
    broken.run(2)
    resumed = Joint(method, clients, more, **settings).go_on(broken)
    resumed.run(1)
    for other in (backwards, resumed):
        assert same(whole.server.state()[0], other.server.state()[0])
        assert all(same(whole.clients()[k], other.clients()[k]) for k in clients)


def alone(method: str, settings: dict[str, Any] | None = None, rounds: int = 1, **how: Any) -> Any:
    """A client after so many rounds without a server."""
    half = client("a", method=method, settings=settings, **how)
    for t in range(1, rounds + 1):
        half.fit(Empty(), round=t)
    return half
