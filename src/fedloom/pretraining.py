"""The server's models and the judge: pretrained once on what no client holds, then taken from the cache.

CLIP and generator learn one after the other (the generator speaks through CLIP's text tower); captioner and judge learn
beside them in a second process. Everything is named by the content it was built from.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.config import Config
from fedloom.data.scene import ImageSet, Scene
from fedloom.errors import BadInput, FedloomError
from fedloom.models.settings import TEXT_ARCHS, LearnerSettings
from fedloom.progress import Observer
from fedloom.runs.cache import cached
from fedloom.scenes import cached_scene

FORMAT = 8  # raise when a change of code changes what pretraining gives


@dataclass(frozen=True)
class Assets:
    """Folders of the pretrained models; None where the method or the data has no use for one."""

    tokenizer: Path
    backbones: Mapping[str, Path] = field(default_factory=dict)  # by `backbone_name`
    clip: Path | None = None
    generator: Path | None = None
    captioner: Path | None = None
    judge: Path | None = None


def prepare(
    config: Config, scene: Scene, needs: frozenset[str], watch: Observer, log: Callable[[str], None]
) -> Assets:
    """All models the run needs, pretrained now or found in the cache.

    Args:
        needs: of "generator" (brings CLIP), "captioner", "judge".
    """
    tokenizer = _tokenizer(config, scene)
    backbones = sorted({backbone_name(x) for x in _random_learners(config)}) if "backbones" in needs else []
    chains = [
        [k for k in ("clip", "generator") if "generator" in needs],
        [*(k for k in ("captioner", "judge") if k in needs), *backbones],
    ]
    missing = [chain for chain in chains if any(not _present(config, scene, kind) for kind in chain)]
    if missing:
        log(f"pretraining on the generic part: {'; '.join(k for chain in missing for k in chain)}")
        _build_side_by_side(config, missing, watch)
    folders = {kind: _asset(config, scene, kind) for chain in chains for kind in chain}
    return Assets(tokenizer, {k: folders.pop(k) for k in backbones}, **folders)


def backbone_name(learner: LearnerSettings) -> str:
    """The asset that a learner without pretrained weights starts from."""
    return "backbone-" + learner.model_dump_json(exclude={"pretrained"})


def _random_learners(config: Config) -> list[LearnerSettings]:
    """The learners that start from a public backbone: not those with weights of their own."""
    every = [x for m in ("image", "text") for x in config.clients.learners(m)]
    return (
        [x for x in every if x.pretrained is None and x.arch != "frozen-mobilenet"]
        if config.clients.public_steps
        else []
    )


# ------------------------------------------------------------------------------------------------ keys and folders


def fingerprint(*parts: Any) -> str:
    """A digest of arrays and texts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            part.tobytes() if isinstance(part, np.ndarray) else "\x1f".join(map(str, part)).encode()
        )
        digest.update(b"\x1e")
    return digest.hexdigest()


def _generic_print(scene: Scene) -> str:
    g = scene.generic
    if g is None:
        raise BadInput(
            f"{scene.name} has no generic part to pretrain the server's models on (set data.options.generic_share)"
        )
    return fingerprint(g.images, g.captions, g.labels, g.names, scene.class_names)


def real_pictures(scene: Scene) -> ImageSet:
    """What the judge learns from: the scene's reference pictures, else the training pictures."""
    real = scene.reference or scene.train.get("image")
    if not isinstance(real, ImageSet):
        raise BadInput(f"{scene.name} has no pictures, so nothing can judge a generator")
    return real


def _key(config: Config, scene: Scene, kind: str) -> dict[str, Any]:
    """Everything the model called `kind` depends on."""
    s = config.server
    base = {
        "kind": kind,
        "format": FORMAT,
        "seed": s.seed,
        "threads": config.engine.threads,
        "torch": _torch_version(),
    }
    if kind == "judge":
        real = real_pictures(scene)
        key = fingerprint(real.images, real.labels)
        return base | {"real": key, "settings": config.evaluation.judge.model_dump(mode="json")}
    base |= {"generic": _generic_print(scene), "vocabulary": s.vocabulary, "tokens": s.tokens}
    if kind == "tokenizer":
        return base
    if kind.startswith("backbone-"):
        steps = config.clients.public_steps
        return base | {"learner": kind, "classes": scene.classes, "steps": steps}
    # How a generator is sampled does not change what it learns.
    sampling = {"guidance", "sampling_steps"} if kind == "generator" else set()
    base["settings"] = getattr(s, kind).model_dump(mode="json", exclude=sampling)
    return base | ({"clip": _key(config, scene, "clip")} if kind == "generator" else {})


def _torch_version() -> str:
    from importlib.metadata import version

    return version("torch")


def _asset(config: Config, scene: Scene, kind: str, tick: Callable[[], None] | None = None) -> Path:
    if (own := _own_weights(config, kind)) is not None:
        return Path(own)
    family = kind.partition("-")[0]
    build = functools.partial(_backbone, kind) if family == "backbone" else _BUILD[kind]
    return cached(family, _key(config, scene, kind), lambda folder: build(config, scene, folder, tick))


def _own_weights(config: Config, kind: str) -> str | None:
    """The folder or hub name that the configuration gives for `kind`."""
    return getattr(getattr(config.server, kind, None), "pretrained", None)


def _present(config: Config, scene: Scene, kind: str) -> bool:
    """Whether the asset is there already (building nothing)."""

    class _Absent(FedloomError):
        pass

    def absent(folder: Path) -> None:
        raise _Absent(str(folder))

    if _own_weights(config, kind) is not None:
        return True
    try:
        cached(kind.partition("-")[0], _key(config, scene, kind), absent)
    except _Absent:
        return False
    return True


# ------------------------------------------------------------------------------------------------ builders


def _tokenizer(config: Config, scene: Scene) -> Path:
    from fedloom.models.text import train_tokenizer

    def build(folder: Path) -> None:
        captions = scene.generic.captions if scene.generic else ()
        corpus = [*captions, *(scene.prompt(c) for c in range(scene.classes))] * 2
        train_tokenizer(corpus, config.server.vocabulary, config.server.tokens).save_pretrained(folder)

    return cached(
        "tokenizer", _key(config, scene, "tokenizer") if scene.generic else {"scene": scene.name}, build
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in `folder`."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def _prompts(scene: Scene) -> list[str]:
    return [scene.prompt(c) for c in range(scene.classes)]


def _clip(config: Config, scene: Scene, folder: Path, tick: Callable[[], None] | None) -> None:
    from fedloom.models.clip import build_clip, pretrain_clip
    from fedloom.randomness import global_torch_stream

    assert scene.generic is not None
    s, seed = config.server.clip, config.server.seed
    with global_torch_stream(seed, "clip", "weights"):
        clip = build_clip(s, load_tokenizer(_tokenizer(config, scene)), scene.generic.images.shape[1])
    pretrain_clip(clip, scene.generic, _prompts(scene), s, seed, tick)
    clip.save(folder)


def _generator(config: Config, scene: Scene, folder: Path, tick: Callable[[], None] | None) -> None:
    from fedloom.models.clip import load_clip
    from fedloom.models.generator import build_generator, pretrain_generator
    from fedloom.randomness import global_torch_stream

    assert scene.generic is not None
    s, seed = config.server.generator, config.server.seed
    clip = load_clip(_asset(config, scene, "clip"))
    with global_torch_stream(seed, "generator", "weights"):
        generator = build_generator(s, clip, scene.generic.images.shape[1], config.clients.width)
    pretrain_generator(generator, scene.generic, _prompts(scene), s, seed, tick)
    generator.save(folder)


def _captioner(config: Config, scene: Scene, folder: Path, tick: Callable[[], None] | None) -> None:
    from fedloom.models.captioner import build_captioner, pretrain_captioner
    from fedloom.randomness import global_torch_stream

    assert scene.generic is not None
    s, seed = config.server.captioner, config.server.seed
    with global_torch_stream(seed, "captioner", "weights"):
        captioner = build_captioner(
            s, load_tokenizer(_tokenizer(config, scene)), scene.generic.images.shape[1]
        )
    pretrain_captioner(captioner, scene.generic, s, seed, tick)
    captioner.save(folder)


def _judge(config: Config, scene: Scene, folder: Path, tick: Callable[[], None] | None) -> None:
    from safetensors.torch import save_file

    from fedloom.models.judge import train_judge

    judge = train_judge(
        config.evaluation.judge, real_pictures(scene), scene.classes, config.server.seed, tick
    )
    save_file(judge.state_dict(), folder / "judge.safetensors")


def _backbone(name: str, config: Config, scene: Scene, folder: Path, tick: Callable[[], None] | None) -> None:
    from safetensors.torch import save_file

    from fedloom.models.backbone import pretrain_backbone
    from fedloom.models.learner import build_learner
    from fedloom.randomness import global_torch_stream

    assert scene.generic is not None
    settings = LearnerSettings.model_validate_json(name.removeprefix("backbone-"))
    tokenizer, seed = load_tokenizer(_tokenizer(config, scene)), config.server.seed
    size = scene.generic.images.shape[1]
    with global_torch_stream(seed, name, "weights"):
        learner = build_learner(settings, classes=scene.classes, image_size=size, tokenizer=tokenizer)
    pretrain_backbone(
        learner,
        "text" if settings.arch in TEXT_ARCHS else "image",
        tokenizer,
        scene.generic,
        steps=config.clients.public_steps,
        batch=64,
        rate=2e-3,
        seed=seed,
        tick=tick,
    )
    body = {k: v.contiguous() for k, v in learner.state_dict().items() if not k.startswith("head.")}
    save_file(body, folder / "backbone.safetensors")


_BUILD: dict[str, Callable[[Config, Scene, Path, Callable[[], None] | None], None]] = {
    "clip": _clip,
    "generator": _generator,
    "captioner": _captioner,
    "judge": _judge,
}


def steps_of(config: Config, kind: str) -> int:
    """Training steps of an asset."""
    if kind.startswith("backbone-"):
        return config.clients.public_steps
    return int((config.evaluation.judge if kind == "judge" else getattr(config.server, kind)).steps)


# ------------------------------------------------------------------------------------------------ two processes


def work() -> None:
    """A child process: builds the chain it reads from stdin, and writes its count of steps to stdout."""
    from fedloom.quiet import settle_process

    order = json.load(sys.stdin)
    config = Config(**order["config"])
    settle_process(config.engine.threads)
    scene = cached_scene(config.data)
    done, told = 0, time.monotonic()

    def tick() -> None:
        nonlocal done, told
        done += 1
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()

    for kind in order["kinds"]:
        _asset(config, scene, kind, tick)


def _build_side_by_side(config: Config, chains: Sequence[Sequence[str]], watch: Observer) -> None:
    """One child a chain. They are plain child processes, so that a user's script needs no `__main__` guard."""
    total = sum(steps_of(config, kind) for chain in chains for kind in chain)
    families = dict.fromkeys(k.partition("-")[0] for chain in chains for k in chain)
    watch.stage("pretraining " + ", ".join(families), total)
    command = [sys.executable, "-P", "-c", "from fedloom.pretraining import work; work()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in chains]
        children = [
            subprocess.Popen(command, stdin=-1, stdout=-1, stderr=error, text=True, env=environment)
            for error in errors
        ]
        for child in children:
            stack.callback(child.wait)
            stack.callback(child.kill)
        done = [0] * len(chains)
        readers = [
            threading.Thread(target=_follow, args=(c, done, n), daemon=True) for n, c in enumerate(children)
        ]
        for child, chain, reader in zip(children, chains, readers):
            assert child.stdin is not None
            child.stdin.write(json.dumps({"config": config.model_dump(mode="json"), "kinds": list(chain)}))
            child.stdin.close()
            reader.start()
        while any(reader.is_alive() for reader in readers):
            time.sleep(0.2)
            watch.at(sum(done))
        for child, error in zip(children, errors):
            if child.wait():
                error.seek(0)
                last = (error.read().strip() or f"exit status {child.returncode}").splitlines()[-1]
                raise FedloomError(f"pretraining failed: {last}")
    watch.at(total)


def _follow(child: subprocess.Popen[str], done: list[int], n: int) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip().isdigit():
            done[n] = int(line)
