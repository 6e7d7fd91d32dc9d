"""Attacks find what was planted, and nothing where there is nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from fedloom.audits import AuditSettings, audit, compared
from fedloom.audits.inversion import compared as inverted
from fedloom.audits.observed import shared_answers
from fedloom.audits.shadows import halves, matched
from fedloom.audits.subject import AuditedRun
from fedloom.config.trees import validate
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.federation.kept import Exchange
from fedloom.methods.shared_messages import SharedAgain, SharedLogits, SharedTexts
from fedloom.runs import read_run

FEW = AuditSettings(shadows=4)
BY_LOSS = AuditSettings(shadows=0)


def copied(run, tmp_path):
    return shutil.copytree(run.path, tmp_path / "run")


def test_a_client_that_learned_by_heart_is_found_out(overfit):
    found = audit(overfit.path, FEW)
    own = found["clients"]["image-0"]["membership"]
    assert own["from"] == "the client's own parameters"
    for way in ("loss", "ratio"):
        value, low, high = own[way]["auc"]
        assert 0.5 < low < value < high <= 1
        assert value > 0.7
    assert found["canaries"]["right"] >= 0.75 * found["canaries"]["guesses"]
    assert found["canaries"]["epsilon"] > 0.2
    assert json.loads((overfit.path / "audit.json").read_text()) == found


def test_a_client_that_took_no_step_gives_nothing_away(still):
    found = audit(still.path, FEW)
    own = found["clients"]["image-0"]["membership"]
    for way in ("loss", "ratio"):
        assert own[way]["auc"][1] < 0.5 < own[way]["auc"][2]
    assert found["canaries"]["epsilon"] == 0


def test_the_same_seed_finds_the_same(still):
    assert audit(still.path, BY_LOSS) == audit(still.path, BY_LOSS)


def test_answers_about_shared_samples(answered):
    found = audit(answered.path, AuditSettings(shadows=4, clients=("image-0", "text-1")))
    picture, text = found["clients"]["image-0"], found["clients"]["text-1"]
    assert picture["membership"]["from"].startswith("a surrogate")
    assert {"auc", "tpr_1"} <= picture["membership"]["ratio"].keys()
    assert picture["reconstruction"]["from"].endswith("no private picture")
    assert text["reconstruction"] == {"skipped": "it has no pictures"}
    assert text["labels"]["from"] == "the labels that it gives"
    assert sum(text["labels"]["estimate"]) == pytest.approx(1)
    assert "has no canaries" in found["canaries"]["skipped"]


def test_prototypes_come_with_counts(prototypes):
    found = audit(prototypes.path, FEW)["clients"]["image-0"]
    assert found["labels"]["l1"] == pytest.approx(0)
    assert found["labels"]["correlation"] == pytest.approx(1)
    assert "nothing crosses" in found["membership"]["skipped"]
    assert "the client's own encoder" in found["reconstruction"]["from"]


def test_a_server_without_clients_learns_nothing(make):
    run = make("self-finetune", "rounds=1", "settings.samples=10", "settings.tune_steps=2", "settings.tune_batch=8")
    found = audit(run.path, FEW)
    assert (found["clients"], found["note"]) == (
        {},
        "self-finetune has no clients: nothing crosses, so nothing is learned",
    )


def test_by_secure_sums_the_mean_alone_is_attacked(make):
    pytest.importorskip("cryptography")
    two = "clients.image=[{arch: vit, hidden: 16, layers: 1, heads: 2, patch: 6, width: 16, count: 2}]"
    run = make("fedavg", *SMALL_SECURE, two)
    own = audit(run.path, FEW)["clients"]["image-0"]["membership"]
    assert own["from"] == "the mean parameters of its group (secure sums)"
    assert own["ratio"] == {"skipped": "no client's own model is seen, so there is no shadow of it"}


SMALL_SECURE = (
    *("rounds=2", "engine.keep_messages=true", "clients.public_steps=0", "clients.warm_steps=0", "clients.text=[]"),
    *("settings.private_steps=2", "settings.extra_steps=0", "settings.secure=true"),
)


# ------------------------------------------------------------------------------------------------------- bad input


def test_a_run_without_messages(smoke_run):
    with pytest.raises(BadInput, match=r"has kept no messages: run it with --set engine\.keep_messages=true"):
        audit(smoke_run.path)


def test_an_unfinished_run(still, tmp_path):
    (copied(still, tmp_path) / "summary.json").unlink()
    with pytest.raises(BadInput, match=r"is unfinished: go on with it \(fedloom run --resume"):
        audit(tmp_path / "run")


def test_damaged_messages_of_whomever(still, tmp_path):
    """All are looked at before anything is attacked, those of other clients too."""
    place = copied(still, tmp_path)
    last = sorted((place / "messages").rglob("*.msg"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(BadInput, match=f"{last.name}: the message that was kept is not what was written"):
        audit(place)


def test_a_client_that_is_not_there(still):
    with pytest.raises(BadInput, match="unknown client 'image-7'"):
        audit(still.path, AuditSettings(clients=("image-7",)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attacks": ("theft",)}, "'theft', allowed: membership, reconstruction, labels, canaries"),
        ({"shadows": 5}, "shadows = 5: allowed: 0, or an even number from 4 on"),
        ({"shadows": 2}, "shadows = 2: allowed: 0, or an even number from 4 on"),
    ],
)
def test_settings_that_are_wrong(given, said):
    with pytest.raises(BadInput, match=said):
        validate(AuditSettings, given)


def test_all_runs_are_looked_at_before_the_first_is_attacked(still, smoke_run, tmp_path):
    place = copied(still, tmp_path)
    (place / "audit.json").unlink(missing_ok=True)
    with pytest.raises(BadInput, match="has kept no messages"):
        compared([place, smoke_run.path], BY_LOSS)
    assert not (place / "audit.json").exists()
    with pytest.raises(BadInput, match="the same run is named twice"):
        compared([place, place], BY_LOSS)


# ------------------------------------------------------------------------------------------------------- the parts


def test_members_and_others_have_the_same_classes():
    rng = np.random.default_rng(0)
    blank = np.zeros((30, 2, 2, 3), np.uint8)
    held = ImageSet(blank, np.arange(30) % 3)
    strangers = ImageSet(blank[:12], np.array([0] * 8 + [1] * 4))
    ours, theirs = matched(held, strangers, rng, 500)
    assert np.bincount(ours.labels).tolist() == np.bincount(theirs.labels).tolist() == [8, 4]
    assert len(matched(held, strangers, rng, 5)[0]) == 5


def test_each_sample_is_in_half_of_the_shadows():
    inside = halves(11, 6, np.random.default_rng(0))
    assert (inside.sum(0) == 3).all()
    assert set(inside.sum(1)) == {5, 6}


def test_canaries_are_no_members(overfit):
    run = AuditedRun.open(read_run(overfit.path))
    truth = run.truth("image-0")
    assert len(truth.trained_on()) == len(truth.held) + truth.inside.sum()
    assert len(truth.canaries) == len(truth.inside) == 60


def test_answers_of_samples_that_were_shown_before():
    first = Exchange(1, "infer", SharedTexts(("a", "b", "c")), SharedLogits(np.eye(3, dtype=np.float32)))
    wanted = np.array([True, False, True])
    said = SharedLogits(np.array([[0, 1, 2], [np.nan, 0, 0]], np.float32))
    found = shared_answers(
        [first, Exchange(1, "learn", None, None), Exchange(2, "infer", SharedAgain(3, wanted), said)]
    )
    assert found is not None
    assert found.shown == ("a", "b", "c", "a")
    assert found.labels.tolist() == [0, 1, 2, 2]


def test_an_inverter_of_an_encoder_that_keeps_all_beats_the_mean_picture():
    draws = torch.Generator().manual_seed(0)
    pictures = torch.rand(300, 3, 4, 4, generator=draws)
    z = pictures.flatten(1) @ torch.linalg.qr(torch.randn(48, 48, generator=draws))[0]
    kept = inverted(z[:240], pictures[:240], z[240:], pictures[240:], 0)
    assert kept["psnr"] > kept["psnr_mean"] + 3
    assert kept["psnr"] > kept["psnr_nearest"] + 3
    blind = torch.randn(300, 48, generator=draws)
    nothing = inverted(blind[:240], pictures[:240], blind[240:], pictures[240:], 0)
    assert abs(nothing["psnr"] - nothing["psnr_mean"]) < 1
