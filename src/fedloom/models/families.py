"""What a folder of a text-to-image model holds, and how each family is loaded: embedded, Stable Diffusion, GLIDE.

`family_of` looks into model_index.json alone; the libraries come when something is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput
from fedloom.models.glide.settings import GlideOptions
from fedloom.models.latent_settings import LatentOptions, LatentSettings
from fedloom.models.settings import EMBEDDED, GeneratorSettings

FAMILIES = {
    "PixelTextToImagePipeline": "pixel",
    "StableDiffusionPipeline": "latent",
    "StableDiffusionXLPipeline": "latent",
    "GlidePipeline": "glide",
}
_KEY = "server.generator"


def class_of(folder: str | Path) -> str:
    """The pipeline's class, one of `FAMILIES`. BadInput where the folder is none of a known pipeline."""
    file = Path(folder) / "model_index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no JSON"
        raise BadInput(f"generator {folder}: expected a diffusers folder, model_index.json: {said}") from None
    name = index.get("_class_name") if isinstance(index, dict) else None
    if name not in FAMILIES:
        raise BadInput(f"generator {folder}: _class_name {name!r}, allowed: {', '.join(FAMILIES)}")
    return str(name)


def family_of(folder: str | Path) -> str:
    """pixel (what fedloom builds itself), latent or glide."""
    return FAMILIES[class_of(folder)]


def latent_settings(settings: GeneratorSettings, folder: str | Path, side: int | None) -> LatentSettings:
    """The settings of Stable Diffusion in a folder."""
    sampling = {"sampling_steps": settings.sampling_steps, "guidance": settings.guidance}
    given = {k: v for k, v in sampling.items() if v is not None}
    options = (settings.latent or LatentOptions()).model_dump()
    return LatentSettings(**options, **given, pretrained=str(folder), side=side or None)


def locate(settings: GeneratorSettings) -> Path:
    """The folder that `pretrained` is, or that the hub's cache has for it."""
    assert settings.pretrained is not None
    if Path(settings.pretrained).is_dir():
        return Path(settings.pretrained)
    from fedloom.models.latent_files import resolve

    return resolve(latent_settings(settings, settings.pretrained, None))


def largest_side(folder: Path, family: str, upsample: bool = False) -> int:
    """Side in pixels of what a Stable Diffusion or a GLIDE draws, by the configurations of its parts; 0: not said."""

    def read(part: str) -> dict[str, Any]:
        try:
            config = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return config if isinstance(config, dict) else {}

    latent = family == "latent"
    side = read("upsampler" if upsample else "unet").get("sample_size", 0)
    levels = len(read("vae").get("block_out_channels", ())) if latent else 1
    return side * 2 ** max(levels - 1, 0) if isinstance(side, int) else 0  # else loading says what is wrong


def check_given(settings: GeneratorSettings, tuning: Any, side: int = 0) -> None:
    """Look at a given generator before anything is begun: that it is one, and that what is asked of it can be.

    Args:
        tuning: the method's settings; of them `condition` and `tune_steps` count, where they are there.
        side: of the data's pictures in pixels; 0: any.

    Raises:
        BadInput: on one line.
    """
    if settings.pretrained is None:
        return
    folder = locate(settings)
    name = class_of(folder)
    family = FAMILIES[name]
    for group, what in (("latent", "Stable Diffusion"), ("glide", "GLIDE")):
        if getattr(settings, group) is not None and family != group:
            raise BadInput(
                f"{_KEY}.{group} is for {what}: {settings.pretrained} holds a {name}, leave it out"
            )
    if family == "pixel":
        return
    options = settings.latent or LatentOptions() if family == "latent" else settings.glide or GlideOptions()
    tunes: Any = getattr(tuning, "tune_steps", 1)
    if isinstance(options, LatentOptions) and tunes:
        only: dict[str, Any] = {"precision": "fp16", "offload": True}
        for key, value in only.items():
            if getattr(options, key) == value:
                raise BadInput(
                    f"{_KEY}.latent.{key} = {value!r} draws only, and {type(tuning).__module__.rpartition('.')[2]} "
                    "tunes the generator: take another, or settings.tune_steps=0"
                )
    if name == "StableDiffusionPipeline" and getattr(tuning, "condition", "add") == "pooled":
        raise BadInput(
            "settings.condition = 'pooled': Stable Diffusion 1 and 2, without pooled text, allow add, token"
        )
    upsample = isinstance(options, GlideOptions) and options.upsample
    most = largest_side(folder, family, upsample)
    if most and side > most:
        more = "" if upsample or not (folder / "upsampler").is_dir() else f"; more with {_KEY}.glide.upsample"
        raise BadInput(
            f"generator {settings.pretrained}: draws {most} pixels, the data's pictures have {side}; "
            f"allowed: up to {most} (data.options.size){more}"
        )
    from fedloom.models.latent_files import device_of

    device_of(options.device)


def load_family(
    settings: GeneratorSettings, folder: str | Path, width: int, side: int = 0, seed: int = 0
) -> Any:
    """The generator in `folder`, ready to draw, of whichever family.

    Args:
        settings: how it draws; its `pretrained` says whether the user has given it.
        width: D of the representations.
        side: in pixels of what is to be handed out; 0: its own.
        seed: of what is put on it (LoRA's factors).

    Raises:
        BadInput: the folder, the device or the side does not do.
    """
    from safetensors import SafetensorError

    family = "pixel" if settings.pretrained is None else family_of(folder)
    try:
        if family == "latent":
            from fedloom.models.latent import load_latent

            return load_latent(latent_settings(settings, folder, side), width, seed=seed)
        if family == "glide":
            from fedloom.models.glide.generator import load_glide_generator

            sampling = (settings.guidance, settings.sampling_steps)
            return load_glide_generator(folder, width, "add", settings.glide, side or None, *sampling)
        from fedloom.models.generator import load_generator

        generator = load_generator(folder, width)
    except BadInput:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        if settings.pretrained is None:
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"generator {folder}: cannot be loaded as {class_of(folder)}: {line}") from error
    own = {k: getattr(settings, k) if getattr(settings, k) is not None else v for k, v in EMBEDDED.items()}
    generator.pipe.register_to_config(**own)
    if settings.pretrained is not None and side and generator.size != side:
        raise BadInput(f"generator {folder}: draws {generator.size} pixels, allowed: {side}, as the data are")
    return generator


def load_pipeline(folder: str | Path) -> Any:
    """The diffusers pipeline in a folder that a run exported, on the CPU."""
    family = family_of(folder)
    if family == "latent":
        from fedloom.models import latent_files

        return latent_files.load_pipeline(Path(folder), LatentSettings(pretrained=str(folder)))
    if family == "glide":
        from fedloom.models.glide.pipeline import load_glide

        return load_glide(folder)
    from fedloom.models.pipeline import load_pipeline as load_pixel

    return load_pixel(folder)


def prepare_drawing(
    pipeline: Any, settings: GeneratorSettings, steps: int | None, guidance: float | None
) -> tuple[int, dict[str, Any]]:
    """A loaded pipeline made to draw as its run did: pictures at a time, and what it is called with.

    Args:
        settings: the run's; its device is used where this machine has it.
        steps, guidance: in place of the run's.
    """
    given = {"num_inference_steps": steps, "guidance_scale": guidance}
    family = FAMILIES[type(pipeline).__name__]
    if family == "pixel":
        return 64, given
    from fedloom.models.latent_files import device_of
    from fedloom.models.latent_schedule import sampler

    options: Any = (
        settings.latent or LatentOptions() if family == "latent" else settings.glide or GlideOptions()
    )
    try:
        pipeline.to(device_of(options.device))
    except BadInput:
        pipeline.to("cpu")
    if family == "glide":
        return options.batch, given | {"upsample": options.upsample}
    own = latent_settings(settings, "", None)
    steps = steps or own.sampling_steps
    pipeline.scheduler = sampler(own.sampler, pipeline.scheduler, steps)
    return options.batch, {
        "num_inference_steps": steps,
        "guidance_scale": own.guidance if guidance is None else guidance,
    }
