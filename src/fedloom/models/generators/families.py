"""What a folder of a text-to-image model holds, and how each family is loaded: embedded, Stable Diffusion, GLIDE.

`family_of` looks into model_index.json alone; the libraries come when something is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloom.config.base import Precision
from fedloom.config.glide import GlideOptions, GlideSettings
from fedloom.config.models import EMBEDDED, GeneratorSettings
from fedloom.config.stable_diffusion import LatentOptions, LatentSettings
from fedloom.errors import BadInput, first_line
from fedloom.strict_json import parse
from fedloom.weights.place import shipped

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
        index = parse(file.read_bytes(), finite=False)
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


def latent_settings(settings: GeneratorSettings, folder: str | Path, **more: Any) -> LatentSettings:
    """The settings of Stable Diffusion in a folder; more: side, device, precision."""
    options = (settings.latent or LatentOptions()).model_dump()
    return LatentSettings(**options, **_sampling(settings), **more, pretrained=str(folder))


def glide_settings(settings: GeneratorSettings, **more: Any) -> GlideSettings:
    """The settings of GLIDE; more: side, device, precision."""
    return GlideSettings(**(settings.glide or GlideOptions()).model_dump(), **_sampling(settings), **more)


def _sampling(settings: GeneratorSettings) -> dict[str, Any]:
    given = {"sampling_steps": settings.sampling_steps, "guidance": settings.guidance}
    return {k: v for k, v in given.items() if v is not None}


def locate(settings: GeneratorSettings) -> Path:
    """The folder that `pretrained` is, that was fetched under this name, or that the hub's cache has for it."""
    assert settings.pretrained is not None
    if (own := shipped(settings.pretrained)) is not None:
        return own
    if Path(settings.pretrained).is_dir():
        return Path(settings.pretrained)
    from fedloom.models.generators.latent_files import resolve

    return resolve(latent_settings(settings, settings.pretrained))


def largest_side(folder: Path, family: str, upsample: bool = False) -> int:
    """Side in pixels of what a Stable Diffusion or a GLIDE draws, by the configurations of its parts; 0: not said."""

    def read(part: str) -> dict[str, Any]:
        try:
            config = parse((folder / part / "config.json").read_bytes(), finite=False)
        except (OSError, ValueError):
            return {}
        return config if isinstance(config, dict) else {}

    latent = family == "latent"
    side = read("upsampler" if upsample else "unet").get("sample_size", 0)
    levels = len(read("vae").get("block_out_channels", ())) if latent else 1
    return side * 2 ** max(levels - 1, 0) if isinstance(side, int) else 0  # else loading says what is wrong


def check_given(
    settings: GeneratorSettings, tuning: Any, side: int = 0, device: str = "cpu", precision: Precision = "fp32"
) -> None:
    """Look at the generator before anything is begun: that a given one is one, and that what is asked of it can be.

    Args:
        tuning: the method's settings; of them `condition` and `tune_steps` count, where they are there.
        side: of the data's pictures in pixels; 0: any.
        device, precision: the server's.

    Raises:
        BadInput: on one line.
    """
    if device != "cpu":
        from fedloom.models.device import device_of

        device_of(device)
    if precision == "fp16":
        _check_tuning(f"server.precision = {precision!r}", tuning)
    if settings.pretrained is None:
        return
    folder = locate(settings)
    name = class_of(folder)
    family = FAMILIES[name]
    for group, what in (("latent", "Stable Diffusion"), ("glide", "GLIDE")):
        if getattr(settings, group) is not None and family != group:
            raise BadInput(f"{_KEY}.{group} is for {what}: {settings.pretrained} holds a {name}, leave it out")
    if family == "pixel":
        return
    options: Any = options_of(settings, family)
    if options.offload:
        _check_tuning(f"{_KEY}.{family}.offload = True", tuning)
        if device == "cpu":
            raise BadInput(
                f"{_KEY}.{family}.offload = True: parts wait on the CPU for an accelerator, server.device is 'cpu'"
            )
    if name == "StableDiffusionPipeline" and getattr(tuning, "condition", "add") == "pooled":
        raise BadInput("settings.condition = 'pooled': Stable Diffusion 1 and 2, without pooled text, allow add, token")
    if family == "latent":
        from fedloom.models.generators.latent_variants import check_variant

        check_variant(folder, options.variant)
    _check_side(settings, folder, family, side)


def _check_tuning(what: str, tuning: Any) -> None:
    """BadInput where the method tunes the generator, and `what` lets it draw only."""
    if getattr(tuning, "tune_steps", 1):
        method = type(tuning).__module__.rpartition(".")[2].removesuffix("_settings")
        raise BadInput(f"{what} draws only, and {method} tunes the generator: take another, or settings.tune_steps=0")


def _check_side(settings: GeneratorSettings, folder: Path, family: str, side: int) -> None:
    """BadInput where the data's pictures are larger than what is drawn."""
    upsample = getattr(options_of(settings, family), "upsample", False)
    most = largest_side(folder, family, upsample)
    if most and side > most:
        more = "" if upsample or not (folder / "upsampler").is_dir() else f"; more with {_KEY}.glide.upsample"
        raise BadInput(
            f"generator {settings.pretrained}: draws {most} pixels, the data's pictures have {side}; "
            f"allowed: up to {most} (data.options.size){more}"
        )


def options_of(settings: GeneratorSettings, family: str) -> LatentOptions | GlideOptions:
    """How a Stable Diffusion or a GLIDE is run."""
    if family == "latent":
        return settings.latent or LatentOptions()
    return settings.glide or GlideOptions()


def load_family(
    settings: GeneratorSettings,
    folder: str | Path,
    width: int,
    side: int = 0,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> Any:
    """The generator in `folder`, ready to draw, of whichever family.

    Args:
        settings: how it draws; its `pretrained` says whether the user has given it.
        width: D of the representations.
        side: in pixels of what is to be handed out; 0: its own.
        seed: of what is put on it (LoRA's factors).
        device, precision: the server's; pictures are handed out on the CPU.

    Raises:
        BadInput: the folder, the device or the side does not do.
    """
    from safetensors import SafetensorError

    family = "pixel" if settings.pretrained is None else family_of(folder)
    try:
        where = {"side": side or None, "device": device, "precision": precision}
        generator = _loaded(settings, family, folder, width, seed, **where)
    except BadInput:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        if settings.pretrained is None:
            raise
        raise BadInput(f"generator {folder}: cannot be loaded as {class_of(folder)}: {first_line(error)}") from error
    if family != "pixel":
        return generator
    own = {k: getattr(settings, k) if getattr(settings, k) is not None else v for k, v in EMBEDDED.items()}
    generator.pipe.register_to_config(**own)
    if settings.pretrained is not None and side and generator.size != side:
        raise BadInput(f"generator {folder}: draws {generator.size} pixels, allowed: {side}, as the data are")
    return generator


def quiet() -> None:
    """diffusers without progress bars of its own, like all libraries in a run."""
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _loaded(settings: GeneratorSettings, family: str, folder: str | Path, width: int, seed: int, **where: Any) -> Any:
    """where: side, device, precision."""
    quiet()
    if family == "latent":
        from fedloom.models.generators.stable_diffusion import load_latent

        return load_latent(latent_settings(settings, folder, **where), width, seed=seed)
    if family == "glide":
        from fedloom.models.generators.glide.generator import load_glide_generator

        return load_glide_generator(folder, width, "add", glide_settings(settings, **where))
    from fedloom.models.generators.pixel import load_generator

    return load_generator(folder, width, "add", where["device"], where["precision"])


def load_pipeline(folder: str | Path) -> Any:
    """The diffusers pipeline in a folder that a run exported, on the CPU."""
    quiet()
    family = family_of(folder)
    if family == "latent":
        from fedloom.models.generators import latent_files

        return latent_files.load_pipeline(Path(folder), LatentSettings(pretrained=str(folder)))
    if family == "glide":
        from fedloom.models.generators.glide.pipeline import load_glide

        return load_glide(folder)
    from fedloom.models.generators.pixel_pipeline import load_pipeline as load_pixel
    from fedloom.models.memory import in_own_memory

    return in_own_memory(load_pixel(folder))
