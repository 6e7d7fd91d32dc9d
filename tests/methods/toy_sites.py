"""A federation of linear learners on drawn data, and a server with the smallest real generator."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedloom.config import ClientGroup, ClientsSettings
from fedloom.data.containers import ImageSet, PublicData, TextSet
from fedloom.data.pairs import ImageTextPairs
from fedloom.federation.engines.local import LocalFederation
from fedloom.federation.host import ClientSpec
from fedloom.federation.ledger import Ledger
from fedloom.functional.norms import unit as of_unit_length
from fedloom.methods.base import UNCOUNTED, ServerContext, load_method
from fedloom.methods.context import ClientContext
from fedloom.methods.retrieval_context import RetrievalContext
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.dual_encoder import DualEncoder
from fedloom.models.clients.text import train_tokenizer
from fedloom.models.generators.pixel import load_generator
from fedloom.seeding import numpy_stream

SIDE, WIDTH, CLASSES, SAMPLES = 12, 8, 3, 12
TEXT_CLASSES = 2  # where each modality has a task of its own
PAIRS = 10  # public pairs
NAMES = ("iris", "rose", "tulip")
PROMPTS = tuple(f"a picture of {name}" for name in NAMES)
WORDS = ("red", "blue", "yellow", "petals", "leaves", "stem", "tall", "small", *NAMES)
CLIENTS = {"image-0": "image", "image-1": "image", "text-0": "text", "text-1": "text"}
ONE_EACH = {"image-0": "image", "text-0": "text", "pair-0": "pair"}
PAIRED = ("fedafd", "fedafd-oracle", "r-standalone", "r-fedmd", "r-fedgems", "r-fed-et", "r-creamfl")
STEPS = {"private_steps": 2, "shared_steps": 2, "server_steps": 2, "distill_steps": 2}
TUNING = {"samples": SAMPLES, "private_steps": 2, "tune_steps": 2, "tune_batch": 4}
QUICK = {
    "fedmmkt": {**TUNING, "retrain_steps": 2, "gamma": 0.25},
    "fedmmkt-pate": {**TUNING, "retrain_steps": 2, "epsilon": 1e9, "sigma_1": 0.01, "sigma_2": 0.01},
    "oracle-vote": {**TUNING, "retrain_steps": 2},
    "fedloom": {**TUNING, "retrain_steps": 2, "surest": 0.0},
    "standalone": {"private_steps": 2, "extra_steps": 0},
    "self-finetune": TUNING,
    "centralised": TUNING,
    **{name: {"private_steps": 2, "extra_steps": 2} for name in ("fedavg", "fedprox", "bias-fl")},
    **{name: {"private_steps": 2, "extra_steps": 2} for name in ("scaffold", "fedproto")},
    "lora-fl": {"private_steps": 2, "extra_steps": 2, "rank": 2},
    "feddat": {"private_steps": 2, "extra_steps": 2, "rank": 2, "tune_steps": 2, "tune_batch": 4},
    **{name: {"private_steps": 2, "extra_steps": 2} for name in ("disentafl", "fedmbridge")},
    **{name: {**TUNING, "retrain_steps": 2} for name in ("fedmd", "fed-et", "fedmekt")},
    **{name: {**TUNING, "retrain_steps": 2, "server_steps": 2} for name in ("fedgems", "creamfl")},
    **{name: {**STEPS, "public": PAIRS} for name in PAIRED},
    "fedafd-oracle": {**STEPS, "public": PAIRS, "oracle_steps": 10},
}


@functools.cache
def words() -> Any:
    return train_tokenizer([f"a picture of {w}" for w in WORDS] * 3, vocabulary=80, length=8)


class Linear(nn.Module):
    """A bag of pixels or words, a linear map, a head. `spoilt`: rows of a forward pass that come out NaN.

    unit: rows of length 1, and dropout, so that whoever trains it must mind which stream it draws from.
    """

    def __init__(self, modality: str, spoilt: tuple[int, ...] = (), unit: bool = False, classes: int = CLASSES) -> None:
        super().__init__()
        self.width, self.unit = WIDTH, unit
        self.body = nn.Linear(3 * SIDE**2 if modality == "image" else len(words()), WIDTH)
        self.projector = nn.Identity()  # a block, for methods that put something after each
        self.head = nn.Linear(WIDTH, classes)
        self.spoilt = list(spoilt)

    def encode(self, **inputs: Tensor) -> Tensor:
        if "pixel_values" in inputs:
            bag = inputs["pixel_values"].flatten(1)
        else:
            bag = nn.functional.one_hot(inputs["input_ids"], len(words())).float().sum(1)
        if self.unit:
            bag = nn.functional.dropout(bag, 0.1, self.training)
        z: Tensor = self.projector(self.body(bag))
        z = of_unit_length(z) if self.unit else z
        if self.spoilt and not self.training:
            z = z.clone()
            z[self.spoilt] = float("nan")
        return z

    def classify(self, z: Tensor) -> Tensor:
        return self.head(z)  # type: ignore[no-any-return]

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.classify(self.encode(**inputs))


def private_of(name: str, modality: str, part: str, n: int = 20, classes: int = CLASSES) -> Any:
    """Of pairs: n pictures, of which every other has two captions."""
    rng = numpy_stream(0, name, part)
    labels = np.arange(n, dtype=np.int64) % classes
    if modality == "pair":
        owner = np.repeat(np.arange(n), 1 + np.arange(n) % 2)
        words = (f"a {rng.choice(WORDS)} {rng.choice(WORDS)} {NAMES[i % CLASSES]}" for i in owner)
        return ImageTextPairs(rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8), tuple(words), owner)
    if modality == "image":
        return ImageSet(rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8), labels)
    start = f"private {name}" if classes == CLASSES else "a"  # names of clients take up what is read of a text
    return TextSet(tuple(f"{start} {rng.choice(WORDS)} {NAMES[c]}" for c in labels), labels)


def client(
    name: str,
    modality: str,
    method: str,
    settings: dict[str, Any],
    spoilt: tuple[int, ...] = (),
    fault: str = "",
    unit: bool | None = None,
) -> Any:
    """A client half of `method`. `fault`: "raise VERB", or "sleep SECONDS". unit: as the method has it."""
    torch.manual_seed(int(numpy_stream(0, name).integers(2**31)))
    kind, _ = load_method(method)
    own = kind.settings(**settings)
    if unit is None:
        unit = kind.models(own, ClientsSettings()).groups[0].unit
    classes = TEXT_CLASSES if unit and modality == "text" else CLASSES
    more: dict[str, Any] = {"fold": 4} if modality == "pair" else {}
    site = (RetrievalContext if modality == "pair" else ClientContext)(
        name=name,
        modality=modality,  # type: ignore[arg-type]
        model=learner_for(kind, own) or own_learner(modality, spoilt, unit, classes),
        tokenizer=words(),
        private=private_of(name, modality, "private", classes=classes),
        test=private_of(name, modality, "test", classes=classes),
        seed=0,
        batch=8,
        optimizer=kind.optimizers[0],
        server=functools.partial(server_learner, unit=True, name="as yet") if "server" in kind.client_uses else None,
        **more,
    )
    site.attach(lambda learner: kind.wrap_model(learner, own))
    half = kind.client(site, own)
    what, _, how = fault.partition(" ")
    if what == "raise":
        setattr(half, how, functools.partial(_fail, name))
    elif what == "sleep":
        infer = half.infer  # type: ignore[attr-defined]
        half.infer = lambda message, *, round: time.sleep(float(how)) or infer(message, round=round)  # type: ignore[attr-defined]
    return half


def own_learner(modality: str, spoilt: tuple[int, ...], unit: bool, classes: int) -> nn.Module:
    """One linear learner, or one of each kind. `spoilt` are rows of either."""
    if modality != "pair":
        return Linear(modality, spoilt, unit, classes)
    return DualEncoder(Linear("image", spoilt, True), Linear("text", spoilt, True))


def learner_for(kind: Any, settings: Any) -> nn.Module | None:
    """A learner of both modalities for methods that are defined on one, the same bits each time; None for others."""
    tiny = {"hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": WIDTH}
    clients = ClientsSettings(image=(ClientGroup(arch="vit", **tiny),), text=())
    model = kind.models(settings, clients).image[0]
    if model.arch != "pair":
        return None
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_client_model(model, classes=CLASSES, image_size=SIDE, tokenizer=words())


def public_pairs(n: int = PAIRS) -> PublicData:
    """Pairs of picture and text that no client holds, no two alike for small n."""
    pictures, rng = private_of("public", "image", "set", n), numpy_stream(0, "public", "texts")
    both = [f"a {one} {other}" for one in WORDS for other in WORDS]
    order = rng.permutation(len(both))
    texts = tuple(both[order[i % len(both)]] for i in range(n))
    nothing = np.zeros(n, dtype=np.int64)
    return PublicData(pictures.images, texts, nothing)


def public_set(n: int = 10) -> PublicData:
    """Pairs of picture and text that no client holds."""
    pictures, texts = private_of("public", "image", "set", n), private_of("public", "text", "set", n)
    return PublicData(pictures.images, texts.texts, pictures.labels)


def server_learner(modality: str, unit: bool = False, name: str = "server") -> ClientContext:
    """A linear learner without data."""
    name = f"{name}-{modality}"
    torch.manual_seed(int(numpy_stream(0, name).integers(2**31)))
    nothing = private_of(name, modality, "none").subset([])
    return ClientContext(
        name=name,
        modality=modality,  # type: ignore[arg-type]
        model=Linear(modality, unit=unit),
        tokenizer=words(),
        private=nothing,
        test=nothing,
        seed=0,
        batch=8,
    )


def _fail(name: str, message: Any, *, round: int) -> Any:
    raise RuntimeError(f"{name} is out of luck")


class Captioner:
    """Says what the mean colour of a picture is."""

    def caption(self, images: Any) -> tuple[str, ...]:
        return tuple(f"a {WORDS[int(image.mean()) % 3]} flower" for image in images)


class Toy:
    """A server and its clients. `broken`: client -> more arguments of `client`."""

    def __init__(
        self,
        folder: Any,
        method: str = "fedmmkt",
        clients: dict[str, str] = CLIENTS,
        broken: dict[str, dict[str, Any]] | None = None,
        timeout: float | None = None,
        tools: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        kind, fixed = load_method(method)
        given = {**QUICK[method], **settings, **fixed}
        self.settings = kind.resolve(kind.settings(**given), list(clients.values()))
        arguments = {"method": method, "settings": self.settings.model_dump(mode="json")}
        specs = [
            ClientSpec(name, m, "toy_sites:client", {"modality": m, **arguments, **(broken or {}).get(name, {})})
            for name, m in clients.items()
        ]
        self.ledger = Ledger(uncounted=UNCOUNTED)
        self.federation = LocalFederation(specs, kind.contract(self.settings), self.ledger)
        given_tools = {
            "generator": load_generator(folder, WIDTH) if folder else None,
            "captioner": Captioner(),
            "modalities": tuple(m for m in ("image", "text", "pair") if m in clients.values()),
            "pairs": private_of("pooled", "pair", "private"),
            "public": public_pairs() if method in PAIRED else public_set(),
            "models": functools.partial(server_learner, unit=method in PAIRED),
            "classify": lambda images: torch.full((len(images), CLASSES), 1 / CLASSES),
            "truth": lambda images: np.arange(len(images)) % CLASSES,
            **(tools or {}),
        }
        self.context = ServerContext(
            class_names=NAMES,
            prompts=PROMPTS,
            width=WIDTH,
            seed=0,
            rounds=3,
            timeout=timeout,
            **given_tools,
        )
        self.server = kind.server(self.context, self.settings)

    def run(self, rounds: int = 2) -> list[Any]:
        """The rounds' infos."""
        infos = []
        for _ in range(rounds):
            self.federation.round += 1
            infos.append(self.server.round(self.federation))
        return infos

    def clients(self) -> dict[str, dict[str, Any]]:
        """Every client's state."""
        return {name: self.half(name).state()[0] for name in self.federation.clients}

    def half(self, name: str) -> Any:
        """A client."""
        return self.federation._host._hosts[name].client  # type: ignore[union-attr]


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Equal names, equal bits."""
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)
