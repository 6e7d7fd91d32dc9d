"""The server's models, the judge and the clients' public backbones: pretrained once on what no client holds, then
taken from the cache. Everything is named by the content it was built from.
"""

from __future__ import annotations

from fedloom.experiment.pretraining.assets import Assets, Evaluators, prepare
from fedloom.experiment.pretraining.builders import load_tokenizer
from fedloom.experiment.pretraining.keys import backbone_name, fingerprint, model_key, pretrained_weights, weights_print

__all__ = [
    "Assets",
    "Evaluators",
    "backbone_name",
    "fingerprint",
    "load_tokenizer",
    "model_key",
    "prepare",
    "pretrained_weights",
    "weights_print",
]
