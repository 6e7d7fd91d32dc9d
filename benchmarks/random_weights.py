"""Folders of models in their published architectures with random weights: to measure speed and memory, never quality.

    python benchmarks/random_weights.py ROOT --size real
    python benchmarks/random_weights.py ROOT --size tiny --only google-bert/bert-base-uncased

Writes ROOT/OWNER/NAME for every model that the paper's presets name; `FEDLOOM_WEIGHTS=ROOT` makes fedloom load them by
those names. A folder that is there already is left as it is, so a killed call can be given again. `real` needs about
10 GB of disk. Vocabularies are made up: as many entries as the published ones, other words.
"""

from __future__ import annotations

import argparse
import json
import shutil
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from fedloom.models.clients.text import train_tokenizer
from fedloom.processes import settle_process

Size = Literal["real", "tiny"]
LETTERS = [*string.ascii_lowercase, *string.digits, *".,'-"]
WORDS = "a picture of the flower with petals that are red blue white yellow round and green"
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SIDE = 64  # pixels of every picture in tiny
# Of a transformer in tiny; the published base sizes are the defaults of transformers' configurations.
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def shape(size: Size) -> dict[str, int]:
    """Width, layers and heads of a base transformer."""
    return BASE if size == "real" else SMALL


def pixels(folder: Path, side: int, means: dict[str, list[float]]) -> None:
    """preprocessor_config.json: how the model wants to see pictures."""
    sizes = {"size": {"height": side, "width": side}, "resample": 3, "do_resize": True, "do_normalize": True}
    content = {"image_processor_type": "ViTImageProcessor", **sizes, **means}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")


def words(vocabulary: int, length: int) -> Any:
    """A word-piece tokenizer of `vocabulary` entries."""
    return train_tokenizer([" ".join([WORDS, *(f"w{n}" for n in range(vocabulary))])] * 2, vocabulary, length)


# --------------------------------------------------------------------------------------------- clients and the judge


def vit(patch: int, labels: int) -> Callable[[Size, Path], None]:
    """A ViT of this patch; one without labels comes without a classifier."""

    def make(size: Size, folder: Path) -> None:
        import transformers as hf

        side = 224 if size == "real" else SIDE
        config = hf.ViTConfig(**shape(size), image_size=side, patch_size=patch, num_labels=labels or 2)
        (hf.ViTForImageClassification if labels else hf.ViTModel)(config).save_pretrained(folder)
        pixels(folder, side, HALVES)

    return make


def beit(size: Size, folder: Path) -> None:
    """BEiT-B/16 after ImageNet."""
    import transformers as hf

    side = 224 if size == "real" else SIDE
    # As its configuration has it: positions relative to one another, a mean over patches, scaled residuals.
    sizes = {"image_size": side, "patch_size": 16, "use_relative_position_bias": True, "num_labels": 1000}
    hf.BeitForImageClassification(hf.BeitConfig(**shape(size), **sizes)).save_pretrained(folder)
    pixels(folder, side, HALVES)


def resnet(size: Size, folder: Path) -> None:
    """ResNet-18."""
    import transformers as hf

    widths, depths = ([64, 128, 256, 512], [2] * 4) if size == "real" else ([16, 32], [1, 1])
    config = hf.ResNetConfig(embedding_size=widths[0], hidden_sizes=widths, depths=depths, layer_type="basic")
    hf.ResNetForImageClassification(config).save_pretrained(folder)
    pixels(folder, 224 if size == "real" else SIDE, HALVES)


def text(kind: str, vocabulary: int, **more: int) -> Callable[[Size, Path], None]:
    """BERT, DistilBERT or RoBERTa with a tokenizer of `vocabulary` words."""

    def make(size: Size, folder: Path) -> None:
        import transformers as hf

        tokens = words(vocabulary if size == "real" else 100, 512)
        sizes: dict[str, int] = dict(shape(size))
        if kind == "DistilBert":
            layers = 6 if size == "real" else 2
            names = ("dim", "n_layers", "n_heads", "hidden_dim")
            sizes = dict(zip(names, (sizes["hidden_size"], layers, *list(sizes.values())[2:]), strict=True))
        config = getattr(hf, f"{kind}Config")(vocab_size=len(tokens), **sizes, **more)
        getattr(hf, f"{kind}Model")(config).save_pretrained(folder)
        tokens.save_pretrained(folder)

    return make


# --------------------------------------------------------------------------------------------------- the server's


def blip(size: Size, folder: Path) -> None:
    """BLIP base, the captioner."""
    import transformers as hf

    side, tokens = (384, words(30522, 512)) if size == "real" else (SIDE, words(100, 64))
    ids = {
        "bos_token_id": tokens.bos_token_id,
        "sep_token_id": tokens.sep_token_id,
        "eos_token_id": tokens.sep_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    heard = {"vocab_size": len(tokens) + 2, "encoder_hidden_size": shape(size)["hidden_size"], **ids}
    config = hf.BlipConfig(
        text_config={**shape(size), **heard, "max_position_embeddings": tokens.model_max_length},
        vision_config={**shape(size), "image_size": side, "patch_size": 16},
        projection_dim=256 if size == "real" else 16,
        image_text_hidden_size=256 if size == "real" else 16,
    )
    hf.BlipForConditionalGeneration(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    pixels(folder, side, OPENAI)


def clip_tokens(vocabulary: int = 0, length: int = 77) -> Any:
    """CLIP's tokenizer over single letters; further entries up to `vocabulary` are never met."""
    from transformers import CLIPTokenizer

    entries = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    entries += [f"<{n}>" for n in range(max(0, vocabulary - len(entries) - 2))]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    begin, end = entries[-2:]
    return CLIPTokenizer(
        vocab={entry: n for n, entry in enumerate(entries)},
        merges=[],
        bos_token=begin,
        eos_token=end,
        unk_token=end,
        pad_token=end,
        model_max_length=length,
    )


def clip_text(size: Size, tokens: Any, width: int, **more: Any) -> dict[str, Any]:
    """CLIP's text tower."""
    real = {"num_hidden_layers": 12, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    sizes = {"hidden_size": width, **real} if size == "real" else SMALL
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    return {
        **sizes,
        "vocab_size": len(tokens),
        "max_position_embeddings": tokens.model_max_length,
        **ends,
        **more,
    }


def clip(size: Size, folder: Path) -> None:
    """CLIP ViT-B/32."""
    import transformers as hf

    side, tokens = (224, clip_tokens(49408)) if size == "real" else (SIDE, clip_tokens())
    project = {"projection_dim": 512 if size == "real" else 16}
    config = hf.CLIPConfig(
        text_config=clip_text(size, tokens, 512, **project),
        vision_config={**shape(size), "image_size": side, "patch_size": 32, **project},
        **project,
    )
    hf.CLIPModel(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    pixels(folder, side, OPENAI)


def stable_diffusion(size: Size, folder: Path) -> None:
    """Stable Diffusion 1.5, without its safety checker."""
    import diffusers
    import transformers as hf

    from fedloom.models.generators.latent_sizes import family_configs

    published = family_configs("sd-1.5")
    unet, vae = dict(published["unet"]), dict(published["vae"])
    if size == "tiny":
        blocks = {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        }
        unet |= {
            "sample_size": 32,
            "block_out_channels": (16, 32),
            "norm_num_groups": 8,
            "layers_per_block": 1,
        }
        unet |= {"cross_attention_dim": 32, "attention_head_dim": 2, **blocks}
        vae |= {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
        vae |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    tokens = clip_tokens(49408 if size == "real" else 0)
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel.from_config(unet),
        vae=diffusers.AutoencoderKL.from_config(vae),
        text_encoder=hf.CLIPTextModel(hf.CLIPTextConfig(**clip_text(size, tokens, 768))),
        tokenizer=tokens,
        scheduler=diffusers.PNDMScheduler(**noise, set_alpha_to_one=False, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def glide(size: Size, folder: Path) -> None:
    """GLIDE: base model, upsampler and both text encoders."""
    from fedloom.models.generators.glide.convert import base_scheduler, upsampler_scheduler
    from fedloom.models.generators.glide.networks import UPSAMPLER, GlideTextEncoder, GlideUNet
    from fedloom.models.generators.glide.pipeline import GlidePipeline
    from fedloom.models.generators.glide.tokenizer import build_tokenizer, byte_letters

    said: dict[str, Any] = {}
    base: dict[str, Any] = {}
    more: dict[str, Any] = dict(UPSAMPLER)
    if size == "tiny":
        said = {"vocabulary": 262, "length": 16, "width": 32, "layers": 2, "heads": 2}
        base = {"channels": 32, "layers": 1, "head_channels": 16, "cross_attention_dim": 32}
        more = base | {
            "sample_size": 128,
            "multipliers": (1, 2),
            "attention_sides": (),
            "low_resolution": True,
        }
        base = base | {"multipliers": (1, 2), "attention_sides": (32,)}
    merges = said.get("vocabulary", 50257) - 257
    pairs = [f"{a} {b}" for a in byte_letters() for b in byte_letters()][:merges]
    (folder / "vocab.bpe").write_text("\n".join(["#version", *pairs]), encoding="utf-8")
    tokens = build_tokenizer(folder / "vocab.bpe", said.get("length", 128))
    pipe = GlidePipeline(
        GlideUNet(**base),
        GlideTextEncoder(**said),
        tokens,
        base_scheduler(),
        GlideUNet(**more),
        GlideTextEncoder(**said),
        upsampler_scheduler(),
    )
    (folder / "vocab.bpe").unlink()
    pipe.save_pretrained(str(folder))


def inception(size: Size, folder: Path) -> None:
    """FID's Inception-v3; there is but one size of it."""
    from fedloom.models.evaluators.inception import Inception

    torch.save(Inception().state_dict(), folder / "pt_inception-2015-12-05-6726825d.pth")


MODELS: dict[str, Callable[[Size, Path], None]] = {
    "google/vit-base-patch32-224-in21k": vit(32, 0),
    "google/vit-base-patch16-224": vit(16, 1000),
    "microsoft/beit-base-patch16-224": beit,
    "microsoft/resnet-18": resnet,
    "google-bert/bert-base-uncased": text("Bert", 30522),
    "distilbert/distilbert-base-uncased": text("DistilBert", 30522),
    "FacebookAI/roberta-base": text("Roberta", 50265, max_position_embeddings=514, type_vocab_size=1),
    "Salesforce/blip-image-captioning-base": blip,
    "openai/clip-vit-base-patch32": clip,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": stable_diffusion,
    "openai/glide": glide,
    "fid/inception-v3": inception,
}


def put(root: Path, name: str, size: Size) -> Path:
    """The folder of a model under `root`, made if it is not there; half a folder is never left under that name."""
    folder = root / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        torch.manual_seed(0)
        MODELS[name](size, begun)
        begun.chmod(0o755)
        begun.rename(folder)
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return folder


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--size", choices=("real", "tiny"), default="real")
    parser.add_argument("--only", nargs="*", choices=tuple(MODELS), default=list(MODELS), metavar="OWNER/NAME")
    given = parser.parse_args()
    settle_process()
    for name in given.only:
        print(put(given.root, name, given.size), flush=True)


if __name__ == "__main__":
    main()
