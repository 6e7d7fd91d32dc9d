"""Tiny random models saved as the published ones are laid out: BLIP, CLIP, image classifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(
        "a",
        "picture",
        "of",
        "red",
        "blue",
        "green",
        "flower",
        "with",
        "five",
        "round",
        "petals",
        "two",
        "cats",
    ),
    *("sleeping", "on", "couch", ".", "-", "'"),
    *(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter != "a"),
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
)
_TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def processor(folder: Path, mean: list[float], std: list[float], **more: Any) -> None:
    """A preprocessor_config.json."""
    said = {"do_normalize": True, "do_resize": True, "image_mean": mean, "image_std": std}
    write(folder, "preprocessor_config.json", said | more)


def bert_words(folder: Path, length: int = 512) -> None:
    """A BERT tokenizer as vocab.txt, with no tokenizer.json."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "pad", "sep", "unk", "mask")}
    write(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "model_max_length": length, "do_lower_case": True, **special},
    )


def blip(folder: Path, side: int = 24) -> Path:
    """As Salesforce/blip-image-captioning-base: a caption begins with a token beyond the tokenizer's words."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    text = {
        **_TOWER,
        "vocab_size": len(WORDS) + 2,
        "bos_token_id": len(WORDS),
        "sep_token_id": 3,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "encoder_hidden_size": 16,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }
    vision = {**_TOWER, "image_size": side, "patch_size": 8, "initializer_range": 0.5}
    BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    bert_words(folder)
    size = {"height": side, "width": side}
    processor(folder, MEAN, STD, image_processor_type="BlipImageProcessor", size=size)
    return folder


def clip(folder: Path, side: int = 24, resized: int = 28) -> Path:
    """As openai/clip-vit-base-patch32, in the older form of its preprocessor_config.json; it crops the middle."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz."
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    tokens = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[])
    tokens.save_pretrained(folder)  # says nothing of the longest row
    text = {**_TOWER, "vocab_size": len(words), "max_position_embeddings": 12}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {**_TOWER, "image_size": side, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    kind = {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "do_center_crop": True}
    processor(folder, MEAN, STD, size=resized, crop_size=side, **kind)
    return folder


def vit(folder: Path, classes: int = 5, side: int = 16, kind: str = "ViTForImageClassification") -> Path:
    """A ViT with `classes`, or the bare ViTModel; it sees as google/vit-base-patch16-224 does."""
    import transformers as hf

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = hf.ViTConfig(**_TOWER, image_size=side, patch_size=8, num_labels=classes)
    getattr(hf, kind)(config).save_pretrained(folder)
    size = {"height": side, "width": side}
    processor(folder, [0.5] * 3, [0.5] * 3, image_processor_type="ViTImageProcessor", size=size, resample=2)
    return folder


def resnet(folder: Path, classes: int = 5) -> Path:
    """A ResNet with `classes`, without a preprocessor_config.json."""
    from transformers import ResNetConfig, ResNetForImageClassification

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=classes)
    ResNetForImageClassification(config).save_pretrained(folder)
    return folder


def bert(folder: Path, classes: int = 5) -> Path:
    """A BERT with `classes` and its tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = BertConfig(**_TOWER, vocab_size=len(WORDS), max_position_embeddings=24, num_labels=classes)
    BertForSequenceClassification(config).save_pretrained(folder)
    bert_words(folder, 24)
    return folder
