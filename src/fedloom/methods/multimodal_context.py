"""A site whose samples have two kinds of data and one label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedloom.data.joint import MultimodalSamples
from fedloom.functional.augment import drop_tokens, shift_flip
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.models.clients.multimodal import FEATURES
from fedloom.models.clients.text import tokenize
from fedloom.models.pictures import as_float, as_stored, soften
from fedloom.tasks import Modality


class MultimodalContext(ClientContext):
    """Its model is a `MultimodalClassifier`, or one in a method's dress.

    Sounds and frames stay as they are stored, and become floats batch by batch (`ready`): clips of real size would not
    fit otherwise. Scored on test samples cut down to the kinds that the site holds.

    Attributes:
        all_test: samples with every kind, of which those that the site is scored on are made.
        owned: the kinds of which the site holds any, in the order of the streams; all, where it has no samples.
    """

    all_test: MultimodalSamples
    owned: tuple[Modality, ...]

    def take(self, private: MultimodalSamples, test: MultimodalSamples) -> None:
        """The site's own samples, and those it is scored on."""
        self.all_test = test
        self.owned = private.owned or private.modalities
        lost = {k: np.ones(len(test), dtype=np.bool_) for k in test.modalities if k not in self.owned}
        seen = test.lacking(lost) if lost else test
        self.samples = {"private": private, "test": seen}
        self.private, self.test = self.stored(private), self.stored(seen)
        self.private_labels = torch.from_numpy(private.labels.copy())
        self.test_labels = torch.from_numpy(seen.labels.copy())

    def hold(self, private: MultimodalSamples) -> None:
        """Other samples in place of the site's own; scored on the kinds that these have."""
        self.take(private, self.all_test)

    def stored(self, samples: MultimodalSamples) -> Inputs:
        """Samples as tensors, before they become the model's inputs (see `ready`).

        spectrogram float (N, F, T); frames uint8 (N, M, H, W, 3); input_ids, attention_mask; present bool (N, 2). What
        frozen towers make of frames and texts, in their place: image_features (N, M, F), text_features (N, F).
        """
        found: Inputs = {"present": torch.from_numpy(np.stack(list(samples.present.values()), axis=1))}
        for kind, part in samples.parts.items():
            if isinstance(part, tuple):
                texts = tokenize(self.tokenizer, part)
                looked = self._looked(kind, texts)
                found |= texts if looked is None else {FEATURES[kind]: looked}
            elif kind == Modality.AUDIO:
                found["spectrogram"] = torch.from_numpy(np.array(part))
            else:
                looked = self._looked(kind, {"pixel_values": as_stored(part.reshape(-1, *part.shape[2:]))})
                frames = torch.from_numpy(np.array(part))
                found |= (
                    {"frames": frames}
                    if looked is None
                    else {FEATURES[kind]: looked.view(*part.shape[:2], looked.shape[1])}
                )
        return found

    def _looked(self, kind: Modality, raw: Inputs) -> Tensor | None:
        """What a frozen tower makes of pictures or texts, if it is one and samples are not augmented."""
        tower: Any = getattr(self.model, "bare", self.model).streams[kind]  # type: ignore[index]
        if self.augment or not hasattr(tower, "frozen_features"):
            return None
        features: Tensor = self.features(tower, raw) if self.features else tower.frozen_features(**raw)
        return features

    def ready(self, inputs: Inputs) -> Inputs:
        """Stored samples as the model's inputs, on its device; what is ready stays as it is.

        spectrogram float (B, 1, F, T); frames float (B, M, 3, H, W) in [-1, 1]; the others as they are.
        """
        seen = dict(inputs)
        if "frames" in seen and seen["frames"].dtype == torch.uint8:
            frames = seen["frames"].to(self.device).permute(0, 1, 4, 2, 3)
            seen["frames"] = as_float(frames).contiguous()
        if "spectrogram" in seen and seen["spectrogram"].ndim == 3:
            seen["spectrogram"] = seen["spectrogram"].to(self.device).float()[:, None]
        return seen

    def views(self, inputs: Inputs, draws: torch.Generator) -> Inputs:
        """A training view: frames of a clip moved, flipped and softened alike; sounds moved in time; words hidden."""
        seen = self.ready(inputs)
        if not self.augment:
            return seen
        if "frames" in seen:
            frames = seen["frames"]
            clip = frames.flatten(1, 2)  # a clip's frames are one picture of many channels: they move together
            seen["frames"] = soften(shift_flip(clip, draws), draws).view_as(frames)
        if "spectrogram" in seen:
            seen["spectrogram"] = shift_time(seen["spectrogram"], draws)
        if "input_ids" in seen:
            seen["input_ids"] = drop_tokens(
                seen["input_ids"], seen["attention_mask"], 0.1, draws, self.tokenizer.unk_token_id
            )
        return seen

    @torch.no_grad()
    def stream_features(self, inputs: Inputs, batch: int = 256) -> dict[Modality, Tensor]:
        """h (N, d) of each stream, without gradient and in evaluation mode."""
        model: Any = self.model
        model.eval()
        n = len(inputs["present"])
        parts = [model.features(**self.ready(rows(inputs, slice(i, i + batch)))) for i in range(0, n, batch)]
        return {kind: torch.cat([part[kind] for part in parts]) for kind in model.kinds}


def shift_time(sounds: Tensor, draws: torch.Generator, share: float = 0.1) -> Tensor:
    """Each spectrogram (B, 1, F, T) moved in time by up to `share` of its length, around the ends."""
    b, _, _, t = sounds.shape
    far = int(share * t)
    if not far:
        return sounds
    offsets = torch.randint(-far, far + 1, (b, 1), generator=draws)
    at = (torch.arange(t) + offsets) % t  # (B, T)
    return sounds.gather(3, at[:, None, None, :].expand_as(sounds))
