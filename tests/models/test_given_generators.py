"""Runs whose server is a given generator, tiny and random: Stable Diffusion with LoRA, and GLIDE with its upsampler."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file
from test_glide_generator import tiny as glide
from test_latent_tiny import tiny as latent

import fedloom
from fedloom.cli.main import main
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.pretraining.keys import asset_key, weights_print
from fedloom.methods.fedmmkt import FedMMKTServer
from fedloom.models.generators.families import check_given, family_of, load_family
from fedloom.results import Run
from pretend import DEVICE, pretended
from whole_runs import assert_equal

pytestmark = pytest.mark.drawn

torch.set_num_threads(1)

MODALITIES = ("latent", "glide")
HALF = "server.precision=bf16"


def folder(kind: str) -> Path:
    return latent("one") if kind == "latent" else glide()


def overrides(kind: str, smoke: tuple[str, ...], *more: str) -> list[str]:
    """Two rounds of the preset `smoke` with the generator of that kind; what the server draws is 12 px."""
    options = {
        "latent": "{train: lora, rank: 2, sampler: ddim, batch: 16}",
        "glide": "{upsample: true, upsampling_steps: 2, batch: 16}",
    }
    given = [f"server.generator.pretrained={folder(kind)}", f"server.generator.{kind}={options[kind]}"]
    few = ["settings.samples=10", "settings.tune_batch=4", "engine.workers=0"]
    return [*smoke, *few, *given, *more]


@pytest.fixture(scope="module")
def whole(smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished run of a kind. Read only."""

    @functools.cache
    def run(kind: str, *more: str) -> Run:
        out = tmp_path_factory.mktemp(kind) / "run"
        done: Run = fedloom.run(preset="smoke", overrides=overrides(kind, smoke_overrides, *more), out=out)
        return done

    return run


@pytest.mark.parametrize(
    "more", [pytest.param((), id="fp32"), pytest.param((HALF,), id="bf16", marks=pytest.mark.conformance)]
)
@pytest.mark.parametrize(
    "kind", [MODALITIES[0], *(pytest.param(kind, marks=pytest.mark.conformance) for kind in MODALITIES[1:])]
)
def test_stopped_and_resumed(kind, more, whole, smoke_overrides, tmp_path, monkeypatch):
    """Stopped in round 2, when there is something learned to take up again."""
    plain = FedMMKTServer.round

    def stopped(self: FedMMKTServer, federation: Any) -> Any:
        if federation.round == 2:
            raise KeyboardInterrupt
        return plain(self, federation)

    with monkeypatch.context() as patch:
        patch.setattr(FedMMKTServer, "round", stopped)
        given = overrides(kind, smoke_overrides, *more)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(preset="smoke", overrides=given, out=tmp_path / "run")
    resumed = fedloom.run(resume=tmp_path / "run")
    assert_equal(whole(kind, *more), resumed)
    rows = resumed.rounds
    assert all(row["losses"]["generator"] > 0 for row in rows[1:])
    pictures = 10 * 3 * 12**2  # bytes of a round's pictures, as the clients see them
    assert rows[1]["bytes_down"] > 2 * pictures


@pytest.mark.parametrize(
    "kind",
    [
        MODALITIES[0],
        *(pytest.param(kind, marks=pytest.mark.conformance) for kind in (*MODALITIES[1:], "embedded")),
    ],
)
def test_a_server_that_lives_elsewhere(kind, whole, smoke_run, smoke_overrides, tmp_path):
    """On a pretended device: the CPU's numbers, but for the places where dropout strikes (GLIDE)."""
    given, here = smoke_overrides, smoke_run
    if kind != "embedded":
        given, here = overrides(kind, smoke_overrides), whole(kind)
    with pretended():
        place = f"server.device={DEVICE}"
        there = fedloom.run(preset="smoke", overrides=[*given, place], out=tmp_path / "run")
    assert there.rounds[0]["fid"] == pytest.approx(here.rounds[0]["fid"], rel=1e-3)
    for a, b in zip(here.rounds[1:], there.rounds[1:]):
        assert b["losses"]["generator"] == pytest.approx(a["losses"]["generator"], rel=0.05)
    assert {p.device.type for p in there.generator.unet.parameters()} == {"cpu"}
    assert type(there.generator) is type(here.generator)


@pytest.mark.parametrize("kind", MODALITIES)
def test_checkpoint_and_export(kind, whole):
    run = whole(kind)
    kept = load_file(run.path / "checkpoints" / "round_0002" / "server.safetensors")
    trained = {name for name in kept if name.startswith("tuner/trained/unet.")}
    assert trained
    assert all("lora" in name for name in trained) == (kind == "latent")
    assert family_of(run.path / "export" / "generator") == kind
    bridge = load_file(run.path / "export" / "generator" / "bridge.safetensors")["weight"]
    assert bridge.any()
    assert np.array_equal(bridge, kept["tuner/trained/bridge.weight"])
    assert str(folder(kind)) in (run.path / "config.yaml").read_text()
    assert str(folder(kind)) not in "".join(
        file.read_text() for file in (run.path / "export" / "generator").rglob("*.json")
    )


@pytest.mark.parametrize("kind", MODALITIES)
def test_generate(kind, whole, tmp_path, capsys):
    def generate(name: str, *more: str, run: Path | None = None) -> Any:
        out = tmp_path / f"{name}.png"
        folder = str(run or whole(kind).path)
        command = ["generate", folder, "--prompt", "a red rose", "--n", "2", "--out", str(out)]
        assert main([*command, *more]) == 0
        return np.asarray(Image.open(out))

    a, b = generate("a"), generate("b")
    assert np.array_equal(a, b)
    c = generate("c", "--steps", "3", "--guidance", "3", "--seed", "1")
    assert not np.array_equal(a, c)
    copy = shutil.copytree(whole(kind).path, tmp_path / "copy")

    def say(**server: str) -> None:
        tree = yaml.safe_load((copy / "config.yaml").read_text())
        tree["server"] |= server
        (copy / "config.yaml").write_text(yaml.safe_dump(tree))

    say(precision="bf16")
    assert not np.array_equal(a, generate("half", run=copy))
    say(device="cuda:77", precision="fp16")  # a run of another machine, which had a GPU
    capsys.readouterr()
    assert np.array_equal(a, generate("d", run=copy))
    said = capsys.readouterr().err
    assert said.startswith("device 'cuda:77': ")
    assert said.endswith("; drawing on the CPU in fp32\n")


def test_an_exported_generator_is_a_given_one(whole):
    """Guidance and steps of GLIDE lie in its folder; W_r is read where it fits."""
    for kind in MODALITIES:
        export = whole(kind).path / "export" / "generator"
        settings = load_config(overrides=[f"server.generator.pretrained={export}"]).server.generator
        generator = load_family(settings, export, 16, 12)
        assert generator.family == kind
        assert generator.size == 12
        assert generator.bridge.weight.any()


def test_what_is_drawn_first_is_drawn_once(whole, smoke_overrides, tmp_path, monkeypatch):
    """A second run of the same folder, wherever it lies, begins with the first one's pictures."""
    from fedloom.models.generators.stable_diffusion import LatentGenerator

    first = whole("latent")
    monkeypatch.setattr(LatentGenerator, "_draw", lambda *a: pytest.fail("drawn again"))
    elsewhere = shutil.copytree(folder("latent"), tmp_path / "elsewhere")
    place = f"server.generator.pretrained={elsewhere}"
    again = fedloom.run(
        preset="smoke",
        overrides=overrides("latent", smoke_overrides, place, "rounds=0", "method=self-finetune")[6:],
        out=tmp_path / "run",
    )
    assert again.rounds[0]["fid"] == first.rounds[0]["fid"]


# ------------------------------------------------------------------------------------------------------------ refusals


WRONG = [
    ("latent", ["server.generator.glide={}"], "one of them"),
    ("latent", ["server.generator.latent.trian=lora"], "Did you mean 'server.generator.latent.train'"),
    ("latent", ["server.precision=fp16"], "server.precision = 'fp16' draws only, and fedmmkt tunes"),
    ("latent", ["settings.condition=pooled"], "settings.condition = 'pooled': Stable Diffusion 1 and 2"),
    ("latent", ["server.device=tpu"], "device 'tpu'"),
    (
        "latent",
        ["server.generator.latent.offload=true"],
        "latent.offload = True draws only, and fedmmkt tunes",
    ),
    ("latent", ["server.generator.latent.variant=fp16"], "no part has such weights"),
    ("glide", ["server.precision=fp16"], "server.precision = 'fp16' draws only, and fedmmkt tunes"),
    ("glide", ["server.precision=fp16", "settings.tune_steps=0", "server.device=tpu"], "device 'tpu'"),
    ("latent", ["server.generator.pretrained=/no/such/folder"], "no such path here"),
    ("latent", ["server.generator.pretrained=null"], "latent is for a given generator"),
    ("latent", ["data.options.size=36"], "draws 32 pixels, the data's pictures have 36"),
    ("glide", ["server.generator.glide.upsample=false"], "upsampling_steps = 2 is for upsample"),
    (
        "glide",
        ["server.generator.glide={upsample: false, upsampling_steps: null}", "data.options.size=24"],
        "draws 16 pixels, the data's pictures have 24; allowed: up to 16 (data.options.size); more with",
    ),
    ("glide", ["data.options.size=36"], "allowed: up to 32 (data.options.size)"),
]


@pytest.mark.parametrize(("kind", "more", "message"), WRONG)
def test_wrong_options_leave_no_folder(kind, more, message, smoke_overrides, tmp_path, capsys):
    given = overrides(kind, smoke_overrides, *more)
    command = ["run", "--preset", "smoke", "--out", str(tmp_path / "run")]
    assert main([*command, *(word for o in given for word in ("--set", o))]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not (tmp_path / "run").exists()


def test_wrong_folders(tmp_path):
    def refused(match: str, **given: Any) -> None:
        with pytest.raises(BadInput, match=match) as caught:
            check_given(load_config(values={"server": {"generator": given}}).server.generator, None)
        assert "\n" not in str(caught.value)

    refused("expected a diffusers folder, model_index.json", pretrained=str(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    refused("_class_name 'FluxPipeline', allowed: PixelTextToImagePipeline", pretrained=str(tmp_path))
    refused("latent is for Stable Diffusion: .* holds a GlidePipeline", pretrained=str(glide()), latent={})
    refused("glide is for GLIDE: .* holds a StableDiffusionXL", pretrained=str(latent("xl")), glide={})
    cut = shutil.copytree(glide(), tmp_path / "cut")
    weights = cut / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    settings = load_config(values={"server": {"generator": {"pretrained": str(cut)}}}).server.generator
    with pytest.raises(BadInput, match="cannot be loaded as GlidePipeline") as caught:
        load_family(settings, cut, 10)
    assert "\n" not in str(caught.value)


def test_one_of_the_embedded_kind(generator, tmp_path):
    """It draws as the embedded one does, at the side that it has."""
    generator.save(tmp_path)
    given = load_config(overrides=[f"server.generator.pretrained={tmp_path}"]).server.generator
    check_given(given, None, 12)
    pipe = load_family(given, tmp_path, 10, 12).pipe
    assert (pipe.config.sampling_steps, pipe.config.guidance) == (8, 1.5)
    with pytest.raises(BadInput, match="draws 12 pixels, allowed: 24, as the data are"):
        load_family(given, tmp_path, 10, 24)


def test_the_decoder_of_feddat_is_for_the_embedded_kind():
    from fedloom.methods.base import ServerContext
    from fedloom.methods.feddat import FedDATServer as FedDat
    from fedloom.methods.feddat import FedDATSettings

    settings = load_config(overrides=[f"server.generator.pretrained={glide()}"]).server.generator
    tools = ServerContext(("iris",), ("iris",), 10, 0, 2, generator=load_family(settings, glide(), 10), public=object())
    with pytest.raises(BadInput, match="this one is glide: decoder=false"):
        FedDat(tools, FedDATSettings())


def test_folders_are_named_by_all_their_parts(tmp_path):
    copy = shutil.copytree(glide(), tmp_path / "copy")
    first = weights_print(str(glide()))
    assert weights_print(str(copy)) == first
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert weights_print(str(copy)) != first


def test_options_of_given_generators_do_not_rename_the_embedded_one():
    """Names of cached models are digests of these trees."""
    tree = load_config(preset="smoke").model_dump(mode="json")["server"]["generator"]
    assert not {"latent", "glide"} & set(tree)
    assert (tree["sampling_steps"], tree["guidance"]) == (2, 1.5)
    from fedloom.experiment.datasets import cached_dataset

    config = load_config(preset="smoke")
    key = asset_key(config, cached_dataset(config.data), "generator")
    assert not {"latent", "glide", "sampling_steps", "guidance"} & set(key["settings"])
