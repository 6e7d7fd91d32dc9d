"""A MobileNet kept as plain arrays, and the image learner that stands on its frozen features.

On disk a MobileNet is two files (TensorFlow's network, batch normalisation folded into the convolutions):

NAME.npz   `opNN.weight` (O, I, kh, kw), depthwise (C, 1, kh, kw), and `opNN.bias` (O,); any float type
NAME.json  `input_size`, `input_scale`, `input_zero_point`, `input_tensor`, and `graph`, a list of operations in order:
           `op`, `inputs`, `output` (tensor numbers), `stride`, `padding` ("SAME"), `act` (0 none, 1 ReLU, 3 ReLU6),
           `weight`, `bias`. `out_range`, where the quantised network saturated, is not read: at the network's own side
           it changes nothing, at smaller sides it cuts off what tells pictures apart.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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

_LIMITS: Mapping[int, tuple[float | None, float | None]] = {0: (None, None), 1: (0.0, None), 3: (0.0, 6.0)}
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_CHUNK = 32  # pictures at a time through the frozen part: more are no faster, and cost memory
NEEDED = "the path of a MobileNet's arrays, NAME.npz with NAME.json beside it"


@dataclass(frozen=True)
class _Step:
    """One operation before the pooling. `layer` names the buffers of a convolution; "" is an addition."""

    layer: str
    inputs: tuple[int, ...]
    output: int
    stride: int
    groups: int
    limits: tuple[float | None, float | None]
    spent: tuple[int, ...]  # tensors that no later step reads


class MobileNet(nn.Module):
    """The network: pixels (B, 3, H, W) in [-1, 1], any H and W, to pooled features (B, F); never trained.

    All its weights are buffers outside of `state_dict`: an optimiser does not see them, a checkpoint does not hold
    them, and it is built again from its two files. `.to(device)` moves them.

    Attributes:
        name: of the files.  digest: SHA-256 of their contents.  side: pixels it was trained at.
        features: F.  classes: outputs of `logits`.
    """

    def __init__(self, graph: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], name: str, digest: str) -> None:
        super().__init__()
        self.name, self.digest = name, digest
        self.side, self._input = int(graph["input_size"]), int(graph["input_tensor"])
        # Pixels in [-1, 1] are bytes / 127.5 - 1; the network wants (bytes - zero point) * scale.
        self._gain = 127.5 * float(graph["input_scale"])
        self._offset = (127.5 - graph["input_zero_point"]) * float(graph["input_scale"])
        operations = graph["graph"]
        pool = [op["op"] for op in operations].index("AVERAGE_POOL_2D")
        channels, self._steps = {self._input: 3}, []
        for n, op in enumerate(operations[:pool]):
            later = {i for following in operations[n + 1 : pool + 1] for i in following["inputs"]}
            self._steps.append(self._step(op, f"layer{n}", arrays, channels, later))
        (self._pooled,) = operations[pool]["inputs"]
        self.features = channels[self._pooled]
        last = operations[pool + 1]
        self._step(last, "classifier", arrays, {last["inputs"][0]: self.features}, set())
        self.classes = len(self.get_buffer("classifier_bias"))
        self.eval()

    def _step(
        self,
        op: Mapping[str, Any],
        layer: str,
        arrays: Mapping[str, NDArray[Any]],
        channels: dict[int, int],
        later: set[int],
    ) -> _Step:
        """Check an operation against the channels that reach it, note those it gives, and keep its weights."""
        kind, inputs, groups = op["op"], tuple(op["inputs"]), 1
        wide = channels[inputs[0]]
        if kind in _CONVOLUTIONS:
            weight, bias = (torch.from_numpy(arrays[op[k]].astype(np.float32)) for k in ("weight", "bias"))
            groups = wide if kind == "DEPTHWISE_CONV_2D" else 1
            given = tuple(weight.shape)
            if weight.ndim != 4 or given[1] != wide // groups or given[0] % groups or bias.shape != given[:1]:
                raise BadInput(f"{op['weight']} is {given} for {wide} channels, bias {tuple(bias.shape)}")
            if op["padding"] != "SAME":
                raise BadInput(f"{op['weight']} has padding {op['padding']!r}, only 'SAME' is known")
            weight = weight.contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"{layer}_weight", weight, persistent=False)
            self.register_buffer(f"{layer}_bias", bias, persistent=False)
            channels[op["output"]] = len(bias)
        elif kind == "ADD" and [channels[i] for i in inputs] == [wide, wide]:
            channels[op["output"]], layer = wide, ""
        else:
            raise BadInput(f"operation {kind} on {[channels[i] for i in inputs]} channels is not known")
        spent = tuple(i for i in dict.fromkeys(inputs) if i not in later)
        limits = _LIMITS[op.get("act", 0)]
        return _Step(layer, inputs, op["output"], int(op.get("stride", 1)), groups, limits, spent)

    def train(self, mode: bool = True) -> MobileNet:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, F): the last maps averaged over all positions."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        tensors: dict[int, Tensor] = {self._input: pixels * self._gain + self._offset}
        for step in self._steps:
            x = tensors[step.inputs[0]]
            if step.layer:
                y = self._convolve(x, step)
            else:
                y = x + tensors[step.inputs[1]]
            for i in step.spent:
                del tensors[i]
            tensors[step.output] = y if step.limits == (None, None) else y.clamp_(*step.limits)
        return tensors[self._pooled].mean((2, 3))

    def _convolve(self, x: Tensor, step: _Step) -> Tensor:
        weight, bias = self.get_buffer(f"{step.layer}_weight"), self.get_buffer(f"{step.layer}_bias")
        down, right = (same_padding(n, k, step.stride) for n, k in zip(x.shape[2:], weight.shape[2:]))
        if down[0] == down[1] and right[0] == right[1]:
            padding = (down[0], right[0])
        else:
            x, padding = F.pad(x, (*right, *down)), (0, 0)
        return F.conv2d(x, weight, bias, step.stride, padding, groups=step.groups)

    def logits(self, features: Tensor) -> Tensor:
        """Scores (B, classes) of the classes it was trained on, from its features (B, F)."""
        weight, bias = self.get_buffer("classifier_weight"), self.get_buffer("classifier_bias")
        return F.linear(features, weight.flatten(1), bias)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding, (before, after): an output of ceil(size / stride), the odd pixel after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


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
        return MobileNet(json.loads(text.read_text()), arrays, npz.stem, digest)
    except KeyError as error:
        raise BadInput(f"MobileNet {prefix}: {error} is missing or not known") from None
    except (BadInput, OSError, EOFError, ValueError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise BadInput(f"MobileNet {prefix}: {error}") from None


class FeatureClientModel(nn.Module):
    """An image learner: frozen features, normalised, a small projector, a linear head.

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
    def look(self, pixel_values: Tensor) -> Tensor:
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
    def looks_with(self) -> str:
        """What its frozen features depend on besides the pictures."""
        return f"{self.trunk.digest} {self.side}"

    def encode(self, pixel_values: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Representations z (B, D) of pictures, or of what `look` gave for them."""
        if features is None:
            assert pixel_values is not None
            features = self.look(pixel_values)
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
    """The learner that `FeatureClientModel.export` wrote, in evaluation mode, and its class names.

    Args:
        folder: what `export` wrote.
        pretrained: of the trunk's arrays, as for `load_mobilenet`.

    Raises:
        BadInput: the arrays are not those that the learner was trained on.
    """
    from safetensors.torch import load_file

    about, trunk = json.loads((Path(folder) / "config.json").read_text()), load_mobilenet(pretrained)
    if trunk.digest != about["trunk_sha256"]:
        raise BadInput(f"{folder} was trained on {about['trunk']}, whose arrays are not those of {pretrained}")
    names = tuple(about["class_names"])
    unit = about.get("unit", False)
    learner = FeatureClientModel(trunk, len(names) or 1, about["width"], about["side"], unit=unit)
    if not names:  # of `export_rows`
        learner.head = nn.Identity()  # type: ignore[assignment]
    learner.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return learner.eval(), names
