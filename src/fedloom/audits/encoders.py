"""A client's encoder as its last checkpoint has it: what no server has, for bounds on what one could do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from safetensors.numpy import load_file
from torch import Tensor

from fedloom.audits.observed import attacker_context
from fedloom.audits.subject import AuditedRun
from fedloom.errors import BadInput
from fedloom.methods.given import GIVEN, completed
from fedloom.models.fit import part_of
from fedloom.runs.checkpoint import newest_checkpoint


def client_encoder(run: AuditedRun, client: str) -> Callable[[Any], Tensor]:
    """Samples to representations (N, D).

    Raises:
        BadInput: the run has no checkpoint of its clients any more.
    """
    newest = newest_checkpoint(run.run.path / "checkpoints")
    file = None if newest is None else newest.path / "clients" / f"{client}.safetensors"
    if file is None or not file.is_file():
        raise BadInput(f"{run.run.path} has no checkpoint of {client}, whose encoder the reconstruction needs")
    context = attacker_context(run, client, run.config.seed)
    state = part_of(load_file(file), "context/model/")
    told = json.loads(file.with_suffix(".json").read_bytes())["meta"]["context"]["model"]
    tensors = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
    context.model.load_state_dict(completed(context.model, tensors, told.get(GIVEN, {})))
    return lambda samples: context.encode(context.inputs(samples))
