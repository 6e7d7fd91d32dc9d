"""Which samples a client learns, where only those count that its own modality has voted for."""

from __future__ import annotations

import torch
from toy_sites import CLIENTS, WIDTH, Toy

from fedloom.methods.labvote import LabVote


def test_samples_that_no_client_of_ones_own_modality_votes_for(tiny_generator, monkeypatch):
    """`own_voters`: each modality learns what its own clients voted for, R with it, in the samples' order."""
    toy = Toy(tiny_generator, own_voters=1)
    said, learned = [], {}
    vote = LabVote.__call__

    def voted(self, outputs, drawn, t):
        judged = vote(self, outputs, drawn, t)
        said.append((outputs, judged.labels))
        return judged

    monkeypatch.setattr(LabVote, "__call__", voted)
    targets = toy.server._targets

    def told(client, *rest):
        learned[client] = targets(client, *rest)
        return learned[client]

    monkeypatch.setattr(toy.server, "_targets", told)
    toy.run(1)
    (outputs, labels) = said[0]
    (fused,) = [part.get("fused") for part in toy.server.tuner.pool.parts]
    for name, modality in CLIENTS.items():
        rows = [k for k, m in enumerate(outputs.modalities) if m.startswith(modality)]
        own = ((outputs.labels[rows] == labels) & outputs.present[rows]).any(0).numpy()
        kept = learned[name].kept
        assert not (kept & ~own).any()
        assert learned[name].labels.tolist() == labels[torch.from_numpy(kept)].tolist()
        assert learned[name].representations.shape == (kept.sum(), WIDTH)
    assert fused.shape[1] == WIDTH
    assert len({tuple(told.kept) for told in learned.values()}) == 2  # one a modality, and they differ
    none = Toy(tiny_generator, own_voters=5)
    assert none.run(1)[-1].losses["generator"] is not None  # which is tuned on all that are kept
