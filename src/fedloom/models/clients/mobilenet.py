"""A MobileNet stored as plain arrays, and the image model that is trained on its frozen features.

On disk a MobileNet 1 or 2 is two files (TensorFlow's network, batch normalisation folded into the convolutions):

NAME.npz   `opNN.weight` (O, I, kh, kw), depthwise (C, 1, kh, kw), and `opNN.bias` (O,); any float type
NAME.json  `input_size`, `input_scale`, `input_zero_point`, and `graph`, a list of operations in order: `op`, and for
           convolutions `stride`, `padding` ("SAME"), `act` (0 none, 3 ReLU6), `weight`, `bias`. `out_range`, where the
           quantised network saturated, is not read: at the network's own side it changes nothing, at smaller sides it
           cuts off what tells pictures apart.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.functional.norms import unit as of_unit_length
from fedloom.models.clients.client_model import UNIT_SCALE
from fedloom.models.device import CPU
from fedloom.models.pictures import as_float
from fedloom.strict_json import parse

_CHUNK = 32  # pictures at a time through the frozen part: more are no faster, and cost memory
_RELU6 = 3  # TensorFlow Lite's number
NEEDED = "the path of a MobileNet's arrays, NAME.npz with NAME.json beside it"


class MobileNet(nn.Module):
    """transformers' MobileNet 1 or 2: pixels (B, 3, H, W) in [-1, 1], any H and W, to pooled features (B, F).

    Never trained. Its weights are buffers outside of `state_dict`: no optimiser sees them, no checkpoint holds them.
    It is built again from its two files. `.to(device)` moves them.

    Attributes:
        name: of the files.  digest: SHA-256 of their contents.  side: pixels it was trained at.
        features: F.  classes: outputs of `logits`.
    """

    def __init__(self, graph: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], name: str, digest: str) -> None:
        super().__init__()
        self.name, self.digest, self.side = name, digest, int(graph["input_size"])
        # Pixels in [-1, 1] are bytes / 127.5 - 1; the network wants (bytes - zero point) * scale.
        self._gain = 127.5 * float(graph["input_scale"])
        self._offset = (127.5 - graph["input_zero_point"]) * float(graph["input_scale"])
        operations = graph["graph"]
        pool = [op["op"] for op in operations].index("AVERAGE_POOL_2D")
        self.net = _network(operations[:pool], arrays)
        self.features = len(arrays[operations[pool - 1]["bias"]])
        for part, value in zip(("weight", "bias"), _weights(operations[pool + 1], arrays)):
            self.register_buffer(f"classifier_{part}", value, persistent=False)
        self.classes = len(self.get_buffer("classifier_bias"))
        self.eval()

    def train(self, mode: bool = True) -> MobileNet:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, F): the last maps averaged over all positions."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        return self.net(pixel_values=pixels * self._gain + self._offset).pooler_output  # type: ignore[no-any-return]

    def logits(self, features: Tensor) -> Tensor:
        """Scores (B, classes) of the classes it was trained on, from its features (B, F)."""
        weight, bias = self.get_buffer("classifier_weight"), self.get_buffer("classifier_bias")
        return F.linear(features, weight.flatten(1), bias)


def _network(operations: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> Any:
    """transformers' MobileNet of these widths with these weights. BadInput where the operations are not its own."""
    from transformers import MobileNetV1Config, MobileNetV1Model, MobileNetV2Config, MobileNetV2Model

    widths = [len(arrays[op["bias"]]) for op in operations if "bias" in op]
    net: Any
    with torch.device("meta"):
        if any(op["op"] == "ADD" for op in operations):
            net = MobileNetV2Model(MobileNetV2Config(depth_multiplier=widths[-2] / 320, finegrained_output=True))
        else:
            net = MobileNetV1Model(MobileNetV1Config(depth_multiplier=widths[-1] / 1024))
    layers = _layers(net)
    kind = f"{type(net).__name__} of these widths"
    if len(layers) != len(operations):
        raise BadInput(f"{len(operations)} operations before the pooling, {kind} has {len(layers)}")
    for layer, op in zip(layers, operations):
        _fill(layer, op, arrays, kind)
    return net


def _layers(net: Any) -> list[Any]:
    """The convolutions in order, each with its normalisation and activation; None for the addition of a shortcut."""
    found: list[Any] = []
    for block in (net.conv_stem, *net.layer, *([net.conv_1x1] if hasattr(net, "conv_1x1") else [])):
        found += [layer for layer in block.modules() if hasattr(layer, "convolution")]
        found += [None] * getattr(block, "use_residual", False)
    return found


def _fill(layer: Any, op: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], kind: str) -> None:
    """Give a layer its weights as buffers; the stored bias holds its batch normalisation."""
    if layer is None or "weight" not in op:
        if layer is not None or op["op"] != "ADD":
            raise BadInput(f"operation {op['op']} is not where {kind} has it")
        return
    convolution, (weight, bias) = layer.convolution, _weights(op, arrays)
    depthwise = "DEPTHWISE_CONV_2D" if convolution.groups > 1 else "CONV_2D"
    act = _RELU6 if layer.activation is not None else 0
    wanted = (depthwise, convolution.stride[0], "SAME", act, tuple(convolution.weight.shape))
    stored = (op["op"], op["stride"], op["padding"], op["act"], tuple(weight.shape))
    if stored != wanted or len(bias) != len(weight):
        raise BadInput(f"{op['weight']} is {stored} with {len(bias)} biases, {kind} has {wanted}")
    for part, value in (("weight", weight.contiguous(memory_format=torch.channels_last)), ("bias", bias)):
        delattr(convolution, part)
        convolution.register_buffer(part, value, persistent=False)
    if convolution.stride == (1, 1):  # SAME is symmetric there: padding within the convolution copies nothing
        convolution.padding = tuple(n // 2 for n in convolution.kernel_size)
        layer.config = SimpleNamespace(tf_padding=False)
    layer.normalization = None
    layer.activation = nn.ReLU6(inplace=True) if act else None


def _weights(op: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Weight and bias of an operation, float32."""
    weight, bias = (torch.from_numpy(arrays[op[key]].astype(np.float32)) for key in ("weight", "bias"))
    return weight, bias


def load_mobilenet(path: str | Path) -> MobileNet:
    """The MobileNet in NAME.npz and NAME.json.

    Args:
        path: of NAME.npz, or without the ending.

    Raises:
        BadInput: a file is absent or unreadable, or graph and arrays do not fit; names the file.
    """
    prefix = str(path).removesuffix(".npz")
    npz, text = Path(prefix + ".npz"), Path(prefix + ".json")
    for file in (npz, text):
        if not file.is_file():
            raise BadInput(f"MobileNet {file}: no such file; give {NEEDED}")
    digest = hashlib.sha256(npz.read_bytes() + text.read_bytes()).hexdigest()
    try:
        with np.load(npz, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        return MobileNet(parse(text.read_bytes(), finite=False), arrays, npz.stem, digest)
    except KeyError as error:
        raise BadInput(f"MobileNet {prefix}: {error} is missing or not known") from None
    except (BadInput, OSError, EOFError, ValueError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise BadInput(f"MobileNet {prefix}: {error}") from None


class FeatureClientModel(nn.Module):
    """An image model: frozen features, normalised, a small projector, a linear head.

    Only normalisation, projector and head are trained and are in `state_dict`.

    Args:
        trunk: the frozen network.
        classes: C.
        width: D.
        side: pictures are resized to side x side pixels (bilinear) before they enter the trunk.
        unit: rows of z have length 1, and the head reads them times `UNIT_SCALE`.
    """

    def __init__(self, trunk: MobileNet, classes: int, width: int, side: int, *, unit: bool = False) -> None:
        super().__init__()
        self.trunk, self.side, self.unit, self.width, self.device = trunk, side, unit, width, CPU
        self.projector = nn.Sequential(nn.LayerNorm(trunk.features), nn.Linear(trunk.features, width), nn.GELU())
        self.head = nn.Linear(width, classes)

    @torch.no_grad()
    def frozen_features(self, pixel_values: Tensor) -> Tensor:
        """Frozen features (B, F) of pictures (B, 3, H, W) in [-1, 1], or uint8."""
        shape = (self.side, self.side)
        seen = []
        for part in map(as_float, torch.split(pixel_values, _CHUNK)):
            part = part.to(self.device)
            if part.shape[2:] != shape:
                part = F.interpolate(part, shape, mode="bilinear", antialias=True)
            seen.append(self.trunk(part).to(CPU))
        return torch.cat(seen)

    def settle(self, device: torch.device, *arithmetic: Any) -> None:
        """Put the trunk on a device. It looks in float32, and there is nothing to save where nothing is trained."""
        self.trunk.to(device)
        self.device = device

    @property
    def features_key(self) -> str:
        """What its frozen features depend on besides the pictures."""
        return f"{self.trunk.digest} {self.side}"

    def encode(self, pixel_values: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Representations z (B, D) of pictures, or of what `frozen_features` gave for them."""
        if features is None:
            assert pixel_values is not None
            features = self.frozen_features(pixel_values)
        z: Tensor = self.projector(features)
        return of_unit_length(z) if self.unit else z

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of representations z (B, D)."""
        return self.head(UNIT_SCALE * z if self.unit else z)  # type: ignore[no-any-return]

    def forward(self, pixel_values: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Logits (B, C)."""
        return self.classify(self.encode(pixel_values, features))

    def export(self, folder: Path, class_names: Sequence[str]) -> None:
        """Write the trained part, what it needs, and how to load it. The trunk itself is not copied.

        transformers has no class for this model, so it is no stock folder: `load_exported` reads it.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")
        about = {
            "arch": "frozen-mobilenet",
            "trunk": self.trunk.name,
            "trunk_sha256": self.trunk.digest,
            "side": self.side,
            "width": self.width,
            "class_names": list(class_names),
        } | ({"unit": True} if self.unit and class_names else {})
        (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")
        (folder / "README.md").write_text(
            f"An image classifier on frozen features of {self.trunk.name}, which is not in this folder.\n"
            "It is no stock transformers model. Load it with\n"
            f"`fedloom.models.clients.mobilenet.load_exported(THIS_FOLDER, PATH_OF_{self.trunk.name}.npz)`.\n"
        )

    def export_rows(self, folder: Path) -> None:
        """Write it without a head: what `load_exported` then gives has z itself as its logits."""
        head, self.head = self.head, nn.Identity()  # type: ignore[assignment]
        try:
            self.export(folder, ())
        finally:
            self.head = head


def load_exported(folder: str | Path, pretrained: str | Path) -> tuple[FeatureClientModel, tuple[str, ...]]:
    """The model that `FeatureClientModel.export` wrote, in evaluation mode, and its class names.

    Args:
        folder: what `export` wrote.
        pretrained: of the trunk's arrays, as for `load_mobilenet`.

    Raises:
        BadInput: the arrays are not those that the model was trained on.
    """
    from safetensors.torch import load_file

    about, trunk = parse((Path(folder) / "config.json").read_bytes(), finite=False), load_mobilenet(pretrained)
    if trunk.digest != about["trunk_sha256"]:
        raise BadInput(f"{folder} was trained on {about['trunk']}, whose arrays are not those of {pretrained}")
    names = tuple(about["class_names"])
    unit = about.get("unit", False)
    model = FeatureClientModel(trunk, len(names) or 1, about["width"], about["side"], unit=unit)
    if not names:  # of `export_rows`
        model.head = nn.Identity()  # type: ignore[assignment]
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval(), names
