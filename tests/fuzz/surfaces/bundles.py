"""What a server gives away: public files, its app, what it offers a silo."""

from __future__ import annotations

import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fedloom.config import load_config
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.deployment.bundle import is_ours, write_bundle
from fedloom.errors import BadInput
from fedloom.experiment.pretraining import backbone_name
from fedloom.experiment.public_files import public_backbone, unpack_public
from fedloom.experiment.silo_offer import Offer, make_offer
from fedloom.federation.codec import encode
from fedloom.federation.engines.silo.envelopes import Envelope, Join
from fedloom.federation.engines.silo.host import Recipe, SiloHost
from fedloom.federation.engines.silo.store import SiloStore
from fedloom.methods.base import load_method
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input
from fuzz.mutate import change_tree, json_bytes
from fuzz.odd_values import ODD_TEXTS
from fuzz.surfaces.silos import Echo
from fuzz.truth import json_object, same_number, same_truth

_PLAIN_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"


def draw_public(rng: Random) -> Input:
    """Public files by name, as a message brings them, and the index of backbones."""
    learner = ModelSettings(arch="vit")
    index = json.dumps({backbone_name(learner): "abc123"}).encode()
    names = [
        "tokenizer/tokenizer.json",
        "tokenizer/vocab.txt",
        "backbones/index.json",
        "backbones/abc123/backbone.safetensors",
    ]
    contents = [b"{}", b"a\nb\n", index, bytes(range(20))]
    return Input(dict(zip(names, contents)), {"names": {}})


_FORBIDDEN = (
    *("tokenizer/code.py", "tokenizer/a.bin", "tokenizer/.json", "backbones/../x/backbone.safetensors"),
    *("tokenizer/../../x.json", "tokenizer/a/b.json", "TOKENIZER/a.json", "tokenizer//a.json"),
)


def damage_name(rng: Random, given: Input) -> Input:
    """A file under a name that leads elsewhere, or is of another kind."""
    name = rng.choice(list(given.files))
    odd = rng.choice(ODD_TEXTS)
    near = (
        f"{name}{odd}",
        f"{odd}{name}",
        f"../{name}",
        f"/{name}",
        name.replace("/", f"/{odd}/"),
        odd,
        f"{name}\n",
    )
    new = rng.choice((*near, *_FORBIDDEN))
    return Input(given.files, {"names": {**given.options["names"], name: new}})


def _named(given: Input) -> dict[str, bytes]:
    return {given.options["names"].get(n, n): e for n, e in given.files.items() if isinstance(e, bytes)}


def read_public(folder: Path, given: Input) -> Any:
    place = folder / "below" / "public"
    files = {name: np.frombuffer(data, np.uint8) for name, data in _named(given).items()}
    unpack_public(files, place)
    public_backbone(place, ModelSettings(arch="vit"))
    return {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def true_public(folder: Path, given: Input) -> Any:
    """All files, if all names are of the layout; nothing beside the folder."""
    named = _named(given)
    allowed = re.compile(
        rf"tokenizer/{_PLAIN_NAME}\.(json|txt|jinja|model)|"
        rf"backbones/(index\.json|{_PLAIN_NAME}/backbone\.safetensors)"
    )
    if not all(allowed.fullmatch(name) and ".." not in name.split("/") for name in named):
        raise Refused("a name")
    if [p.name for p in (folder / "below").iterdir()] != ["public"]:
        raise Refused("something lies beside the folder")
    if "backbones/index.json" in named:
        json_object(named["backbones/index.json"])
    return dict(sorted(named.items()))


def draw_app(rng: Random) -> Input:
    """The app as Flower packs it."""
    if not _APP:
        folder = Path(tempfile.mkdtemp())
        write_bundle(folder)
        _APP.update({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
        shutil.rmtree(folder)
    return Input({"app.fab": _packed(rng, dict(_APP))})


_APP: dict[str, bytes] = {}


def _packed(rng: Random, files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
        packed.writestr(".info/CONTENT", b"list")
    return out.getvalue()


def damage_app(rng: Random, given: Input) -> Input:
    """Another file, other code, a bomb, a name that leads elsewhere, all packed rightly."""
    files = dict(_APP)
    name = rng.choice(list(files))
    match rng.randrange(5):
        case 0:
            files[name] += b"\nimport os\n"
        case 1:
            files[f"../{name}"] = files.pop(name)
        case 2:
            files["fedloom_app/more.py"] = b"import os\n"
        case 3:
            return Input({"app.fab": _packed(rng, {**files, name: bytes(20_000_000)})})
        case _:
            files[name] = files[name].replace(b"fedloom", rng.choice((b"fed1oom", b"f\xff")), 1)
    return Input({"app.fab": _packed(rng, files)})


def read_app(folder: Path, given: Input) -> Any:
    fab = given.files["app.fab"]
    return is_ours(fab if isinstance(fab, bytes) else b"")


def true_app(folder: Path, given: Input) -> Any:
    """Ours, where each file that would be unpacked is ours but for versions."""
    fab: Any = given.files["app.fab"]
    try:
        with zipfile.ZipFile(io.BytesIO(fab)) as packed:
            small = sum(e.file_size for e in packed.infolist()) < 100_000
            files = {e.filename: packed.read(e) for e in packed.infolist()} if small else {}
            names = packed.namelist()
    except Exception:  # noqa: BLE001 - whatever it is, it is no app of ours
        return False
    rest = [n for n in names if n != ".info/CONTENT"]
    same = all(_versions(files.get(n, b"")) == _versions(d) for n, d in _APP.items())
    if sorted(rest) != sorted(_APP) or not same:
        return False
    raise Unsure  # comments and blanks of the settings may differ


def _versions(data: bytes) -> list[bytes]:
    lines = data.split(b"\n") if b"[project]" in data else [data]
    return sorted(
        b"" if line.startswith((b"version", b"flwr-version-target", b"#")) else line.strip()
        for line in lines
        if line.strip()
    )


def draw_offer(rng: Random) -> Input:
    """What a server offers its silos."""
    method = rng.choice(("fedmmkt", "fedavg", "creamfl", "fedmd"))
    config = load_config(values={"method": method})
    return Input({"offer.json": json.dumps(make_offer(config, ("rose", "tulip"), 32)).encode()}, {"method": method})


def damage_offer(rng: Random, given: Input) -> Input:
    try:
        return given.replace("offer.json", json_bytes(rng, change_tree(rng, json.loads(given.files["offer.json"]))))  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError):
        return given


class Offered(Echo):
    """A client that knows what it was offered."""

    offer: Any = None


def make_offered(name: str, offer: Any, public: str, warm: bool) -> Offered:
    client = Offered()
    client.offer = validate(Offer, offer, "offer").model_dump(mode="json")
    return client


def read_offer(folder: Path, given: Input) -> Any:
    """What a silo with a recipe of its own takes from an invitation."""
    data: Any = given.files["offer.json"]
    recipe = Recipe("image", "fedloom.experiment.silo_client:prepare_run", f"{__name__}:make_offered", {}, {})
    host = SiloHost(SiloStore(folder), "silo-0", recipe)
    method, _ = load_method(given.options["method"])
    contract = json.dumps(method.contract(method.settings()).to_names())
    invitation = encode(Join(contract, "", data.decode("utf-8", "replace"), {}))
    answer = host.answer(Envelope({"op": "join", "run": "r1"}, (invitation,)))
    if "failed" in answer.header:
        raise BadInput(answer.header["failed"])
    client: Any = host._clients["silo-0"].host.client
    return _of(client.offer, json_object(data.decode("utf-8", "replace").encode()))


def _of(taken: Any, given: Any) -> Any:
    """Of what was taken that which was given, whole numbers as whole numbers."""
    if isinstance(given, dict):
        return {k: _of(taken[k], v) for k, v in given.items()}
    if isinstance(given, list):
        return [_of(a, b) for a, b in zip(taken, given)]
    same = (
        same_number(taken, given) or same_truth(taken, given) or (isinstance(given, str) and str(taken) == given)
    )  # `1_000` is meant as 1000
    return given if same else taken


def true_offer(folder: Path, given: Input) -> Any:
    """Every value that the offer gives stands in what is taken from it."""
    data: Any = given.files["offer.json"]
    return json_object(data.decode("utf-8", "replace").encode())


SURFACES = (
    Surface("public files", draw_public, read_public, true_public, (damage_name,), files_too=False),
    Surface("app", draw_app, read_app, true_app, (damage_app,), files_too=False, share=0.7),
    Surface("offer", draw_offer, read_offer, true_offer, (damage_offer, damage_offer), files_too=False, share=0.7),
)
