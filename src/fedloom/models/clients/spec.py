"""What an architecture of client models declares of itself. Light: torch is imported where a model is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings

ANY_WEIGHTS = "tiny from a configuration, or pretrained: folder or hub name"
QUERY_VALUE = r".*\.(q_proj|v_proj|query|value|q_lin|v_lin)"  # as transformers names the projections of attention
TUNE = ("all", "lora", "bias", "adapters", "head")
ANY_TYPE = "any"  # of `model_type`: that of whatever Auto classes load
NO_ATTENTION = tuple(t for t in TUNE if t != "lora")


@dataclass(frozen=True)
class DataShape:
    """What a model is built for: C classes, the side of images in pixels, the tokenizer of texts."""

    classes: int
    image_size: int = 32
    tokenizer: Any = None


@dataclass(frozen=True, kw_only=True)
class ClientModelSpec:
    """One architecture: how its backbone, a classifier, is built, and what others must know of it.

    Of a model of transformers `network` and `sizes` say all. Another one gives `backbone`: a module whose output has
    `logits`, and whose last layer, `head`, is linear. It is called with what `to_float` or `tokenize` give:
    pixel_values (B, 3, H, W) in [-1, 1], or input_ids and attention_mask (B, L); audio is pixel_values (B, 1, F, T).

    Attributes:
        name: the value of `arch`.
        modality: what it reads.
        network: how transformers' classes begin: "ViT" stands for ViTConfig and ViTForImageClassification.
        sizes: the arguments of the configuration of a randomly initialised one, but for num_labels.
        backbone: builds it, random or pretrained, in place of `network` and `sizes`.
        client_model: builds the whole client model (`encode`, `classify`, `export` ...), in place of all these.
        head: where the last linear layer is; or finds that in the backbone.
        model_type: what the config.json of pretrained weights must say; "": the same as `name`; or `ANY_TYPE`.
        tokenizer: reads that of pretrained weights, of `pretrained` and the longest row in tokens; None: AutoTokenizer.
        check: raises ValueError where settings do not fit one another.
        tune: allowed values of `tune`.
        lora: the layers that LoRA adapts, as a regular expression.
        block_widths: of the configuration, the width of each block's output; None: its hidden_size or dim.
        patched: whether `patch` must divide the side of images.
        frozen: whether its trunk is never trained, so that features of samples are computed once.
        sided: whether `side` says at how many pixels it sees pictures; so it does where `frozen`.
        needs: what `pretrained` must be, where there is no random initialisation.
        local: whether `pretrained` is always a path, never a hub name, and alone says how large the model is.
        flops: forward FLOP and activation bytes of a backbone for a text of N tokens, where torch cannot count them.
        library, weights: the class behind it, and what `pretrained` may be, for listings.
    """

    name: str
    modality: Modality
    network: str = ""
    sizes: Callable[[ModelSettings, DataShape], Mapping[str, Any]] | None = None
    backbone: Callable[[ModelSettings, DataShape], Any] | None = None
    client_model: Callable[[ModelSettings, DataShape, bool], Any] | None = None
    head: str | Callable[[Any], str] = "classifier"
    model_type: str = ""
    tokenizer: Callable[[str, int], Any] | None = None
    check: Callable[[ModelSettings], None] | None = None
    tune: Sequence[str] = TUNE
    lora: str = QUERY_VALUE
    block_widths: Callable[[Any], Sequence[int]] | None = None
    patched: bool = False
    frozen: bool = False
    sided: bool = False
    needs: str = ""
    local: bool = False
    flops: Callable[[Any, int], tuple[float, float]] | None = None
    library: str = ""
    weights: str = ANY_WEIGHTS

    @property
    def task(self) -> str:
        """How transformers calls what its classifiers of this modality do."""
        return "SequenceClassification" if self.modality == Modality.TEXT else "ImageClassification"

    @property
    def behind(self) -> str:
        """The class behind it."""
        return self.library or f"transformers.{self.network}For{self.task}"


def check_heads(settings: ModelSettings) -> None:
    """ValueError where attention heads do not divide the width."""
    if settings.pretrained is None and settings.hidden % settings.heads:
        raise ValueError(f"{settings.heads} heads do not divide the width {settings.hidden}")


def check_stages(settings: ModelSettings) -> None:
    """ValueError where the width cannot be halved from stage to stage."""
    halves = 2 ** (len(settings.stages) - 1)
    if settings.hidden % halves:
        raise ValueError(
            f"{settings.arch}: hidden = {settings.hidden} cannot be halved for {len(settings.stages)} stages, allowed: "
            f"a multiple of {halves}"
        )


def stage_widths(settings: ModelSettings) -> list[int]:
    """The width of each stage: twice that of the one before, `hidden` at the end."""
    return [settings.hidden // 2**halvings for halvings in reversed(range(len(settings.stages)))]
