"""FedMMKT between its two halves: variants, ablations, orders, absences, and what crosses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, CLIENTS, SAMPLES, WIDTH, Toy, client, private_of, same

from fedloom.errors import BadInput
from fedloom.federation.codec import decode, encode
from fedloom.methods.fedmmkt import (
    METHOD,
    FedMMKTCaptions,
    FedMMKTLogits,
    FedMMKTOutputs,
    FedMMKTPictures,
    FedMMKTSettings,
    FedMMKTTargets,
    FedMMKTViewedOutputs,
)
from fedloom.metrics.communication import MB

IMAGES = {"image-0": "image", "image-1": "image"}
TEXTS = {"text-0": "text", "text-1": "text"}
RUNS = {
    "full": (CLIENTS, {}),
    "u": (IMAGES, {"variant": "u"}),
    "u of texts": (TEXTS, {"variant": "u"}),
    "l": (CLIENTS, {"variant": "l"}),
    "-LabVote": (CLIENTS, {"labvote": False}),
    "-MultiRepFusion": (CLIENTS, {"fusion": False}),
    "-T2I_Rep": (CLIENTS, {"omit": 1.0}),
    "-Client_Rep": (CLIENTS, {"kl_weight": 0.0}),
    "-both representations": (CLIENTS, {"omit": 1.0, "kl_weight": 0.0}),
    "-LabVote -MultiRepFusion": (CLIENTS, {"labvote": False, "fusion": False}),
    "l -LabVote": (CLIENTS, {"variant": "l", "labvote": False}),
    "batch": (CLIENTS, {"attention": "batch"}),
    "chunk": (CLIENTS, {"attention": "chunk", "attention_heads": 4}),
    "mha": (CLIENTS, {"attention": "mha", "attention_heads": 4}),
    "enhanced": (CLIENTS, {"anchor": "enhanced", "balance": True, "include_self": True}),
    "token": (CLIENTS, {"condition": "token", "train_text": "both"}),
    "pooled": (CLIENTS, {"condition": "pooled", "train_text": "caption", "classes": "uniform"}),
    "mix": (CLIENTS, {"mix": True, "align": "cos", "replay_rounds": 1}),
}


def fused_of(toy):
    """R of the rounds that lie in the pool."""
    return [part.get("fused") for part in toy.server.tuner.pool.parts]


@pytest.mark.parametrize("run", RUNS)
def test_two_rounds(run, tiny_generator):
    clients, settings = RUNS[run]
    toy = Toy(tiny_generator, clients=clients, **settings)
    before, first = toy.server.state()[0], toy.clients()
    infos = toy.run()
    assert toy.federation.missing == []
    for info in infos:
        assert info.labels.images.shape == (SAMPLES, 12, 12, 3)
        assert info.labels.kept.any()
        assert info.losses["generator"] > 0
        assert info.losses["clients"] > 0
        assert set(info.seconds) == {"synthesis", "inference", "fusion", "generator", "retraining"}
        if settings.get("classes") != "uniform":
            assert np.bincount(info.labels.drawn).tolist() == [SAMPLES // CLASSES] * CLASSES
    after = toy.server.state()[0]
    assert any(not np.array_equal(before[k], after[k]) for k in before if k.startswith("tuner/trained/unet."))
    for name, state in toy.clients().items():
        assert any(not np.array_equal(first[name][k], state[k]) for k in first[name]), name

    has_fusion = toy.settings.fusion and toy.settings.variant != "l"
    assert all((r is not None) == has_fusion for r in fused_of(toy))
    said = toy.settings.omit < 1 and has_fusion
    assert after["tuner/trained/bridge.weight"].any() == said  # W_r learns if, and only if, it is given something
    if not toy.settings.labvote:
        assert all(i.labels.kept.all() and (i.labels.voted == i.labels.drawn).all() for i in infos)
    if settings.get("attention") == "mha":
        moved = [k for k in before if k.startswith("attention/") and not np.array_equal(before[k], after[k])]
        assert len(moved) == 4


@pytest.mark.parametrize("run", ["full", "u", "l", "mha"])
def test_same_seed_same_bits_in_any_order(run, tiny_generator, monkeypatch):
    """Clients listed backwards, and replies that arrive backwards: nothing changes."""
    clients, settings = RUNS[run]
    one = Toy(tiny_generator, clients=clients, **settings)
    two = Toy(tiny_generator, clients=dict(reversed(clients.items())), **settings)
    ask = two.federation.ask
    monkeypatch.setattr(two.federation, "ask", lambda *a, **k: reversed(list(ask(*a, **k))))
    for a, b in zip(one.run(), two.run()):
        for key in ("images", "drawn", "voted", "kept"):
            assert np.array_equal(getattr(a.labels, key), getattr(b.labels, key)), key
        assert a.losses == b.losses
        assert a.formula == b.formula
    assert all(torch.equal(a, b) for a, b in zip(fused_of(one), fused_of(two)) if a is not None)
    assert same(one.server.state()[0], two.server.state()[0])
    for name, state in one.clients().items():
        assert same(state, two.clients()[name]), name


@pytest.mark.parametrize("run", ["full", "u", "l", "mha"])
def test_taken_up_again(run, tiny_generator, tmp_path):
    """Saved after round 1, loaded into new halves: round 2 is that of an unbroken run."""
    clients, settings = RUNS[run]
    whole, broken, again = (Toy(tiny_generator, clients=clients, **settings) for _ in range(3))
    whole.run(2)
    broken.run(1)
    broken.federation.checkpoint(tmp_path)
    again.federation.restore(tmp_path)
    again.server.load_state(*broken.server.state())
    again.run(1)
    assert again.federation.round == 2
    assert same(whole.server.state()[0], again.server.state()[0])
    for name, state in whole.clients().items():
        assert same(state, again.clients()[name]), name


@pytest.mark.parametrize(("name", "modality"), [("image-0", "image"), ("text-0", "text")])
@pytest.mark.parametrize("variant", ["full", "l"])
def test_one_client(name, modality, variant, tiny_generator):
    toy = Toy(tiny_generator, clients={name: modality}, variant=variant)
    assert toy.settings.variant == ("u" if variant == "full" else "l")
    infos = toy.run()
    assert all(i.labels.kept.all() for i in infos)  # it agrees with itself
    assert toy.federation.missing == []


def test_variants_fit_the_modalities(tiny_generator):
    assert Toy(tiny_generator, clients=IMAGES).settings.variant == "u"
    assert Toy(tiny_generator, clients=TEXTS).settings.variant == "u"
    assert Toy(tiny_generator).settings.variant == "full"
    with pytest.raises(BadInput, match="clients of one modality"):
        Toy(tiny_generator, variant="u")


@pytest.mark.parametrize(
    ("fault", "error", "verbs"),
    [
        ("raise infer", "raised", ["infer"]),  # who has no opinion is not asked to re-train
        ("raise retrain", "raised", ["retrain"]),
        ("sleep 1000", "timeout", ["infer"]),
    ],
)
def test_absent_client(fault, error, verbs, tiny_generator, jumping_clock):
    broken, timeout = {"text-1": {"fault": fault}}, 900.0 if "sleep" in fault else None
    toy = Toy(tiny_generator, broken=broken, timeout=timeout)
    before = toy.clients()["text-0"]
    infos = toy.run(1)
    assert [(m.client, m.error, m.verb) for m in toy.federation.missing] == [("text-1", error, v) for v in verbs]
    assert infos[0].labels.kept.any()
    assert infos[0].losses["generator"] > 0
    assert not same(before, toy.clients()["text-0"])


@pytest.mark.parametrize("variant", ["full", "l"])
def test_a_whole_modality_is_absent(variant, tiny_generator, caplog):
    broken = {name: {"fault": "raise infer"} for name in TEXTS}
    toy = Toy(tiny_generator, broken=broken, variant=variant)
    with caplog.at_level("WARNING", logger="fedloom.methods.fedmmkt"):
        infos = toy.run()
    assert ("round 1: no text client answered; eq. 33" in caplog.text) == (variant == "full")
    assert all(i.labels.kept.any() for i in infos)
    assert {m.client for m in toy.federation.missing} == set(TEXTS)


@pytest.mark.parametrize("variant", ["full", "l"])
def test_everybody_is_absent(variant, tiny_generator):
    broken = {name: {"fault": "raise infer"} for name in CLIENTS}
    toy = Toy(tiny_generator, broken=broken, variant=variant)
    before, first = toy.server.state()[0], toy.clients()
    infos = toy.run()
    after = toy.server.state()[0]
    assert same(before, {k: after[k] for k in before})
    assert all(same(first[name], state) for name, state in toy.clients().items())
    assert len(toy.federation.missing) == 2 * len(CLIENTS)
    for info in infos:
        assert not info.labels.kept.any()
        assert (info.labels.voted == -1).all()
        assert info.losses == {"generator": None, "clients": None}


@pytest.mark.parametrize("variant", ["full", "l"])
def test_nothing_is_kept(variant, tiny_generator):
    """M = 0: the generator stays as it is to the bit; clients train on their own data alone."""
    toy = Toy(tiny_generator, variant=variant, gamma=1.0, broken={"text-1": {"fault": "raise infer"}})
    alone = Toy(tiny_generator, method="standalone")
    before = toy.server.state()[0]
    infos = toy.run()
    alone.run()
    after = toy.server.state()[0]
    assert same(before, {k: after[k] for k in before if k in after})
    assert all(not i.labels.kept.any() and i.losses["generator"] is None for i in infos)
    for name in ("image-0", "image-1", "text-0"):
        mine, theirs = toy.clients()[name], alone.clients()[name]
        assert same({k: v for k, v in mine.items() if k.startswith("context/")}, theirs)
    assert same(toy.clients()["text-1"], Toy(tiny_generator).clients()["text-1"])


@pytest.mark.parametrize("variant", ["full", "l"])
def test_an_answer_that_is_not_finite(variant, tiny_generator):
    """A client is absent for the samples that it has no finite answer to, and for no others."""
    spoilt = (0, 5)
    clients = {"image-0": "image", "text-0": "text"}
    toy = Toy(tiny_generator, clients=clients, broken={"image-0": {"spoilt": spoilt}}, variant=variant, gamma=1.0)
    seen = []
    ask = toy.federation.ask

    def watched(verb, message, **options):
        replies = list(ask(verb, message, **options))
        seen.extend(r for r in replies if verb == "infer")
        return iter(replies)

    toy.federation.ask = watched
    infos = toy.run(1)
    assert toy.federation.missing == []
    assert not infos[0].labels.kept[list(spoilt)].any()  # one of two is not everybody
    assert (infos[0].labels.voted[list(spoilt)] >= 0).all()
    bad = next(r.message for r in seen if r.client == "image-0")
    if variant == "full":
        assert np.flatnonzero(bad.labels < 0).tolist() == list(spoilt)
        assert np.isfinite(bad.representations).all()
    else:
        assert np.flatnonzero(~np.isfinite(bad.logits).all(1)).tolist() == list(spoilt)
    low = Toy(tiny_generator, clients=clients, broken={"image-0": {"spoilt": spoilt}}, variant=variant, gamma=0.5)
    assert low.run(1)[0].labels.kept[list(spoilt)].all()
    assert all(r is None or torch.isfinite(r).all() for r in fused_of(low))


@pytest.mark.parametrize("run", ["full", "u", "l"])
def test_nothing_private_crosses(run, tiny_generator, monkeypatch):
    clients, settings = RUNS[run]
    toy = Toy(tiny_generator, clients=clients, **settings)
    crossed, record = [], toy.ledger.record

    def kept(**row):
        crossed.append(row)
        record(**row)

    monkeypatch.setattr(toy.ledger, "record", kept)
    toy.run()
    expected = {
        "full": {"representations", "labels", "entropies"},
        "u": {"representations", "augmented", "labels", "entropies"},
        "l": {"logits"},
    }
    fields = {(r["verb"], r["direction"]): {f["name"] for f in r["fields"]} for r in toy.ledger.rows()}
    assert fields[("infer", "up")] == expected[toy.settings.variant] | {"known"}  # which is null here
    assert fields[("retrain", "up")] == {"loss"}
    assert fields[("infer", "down")] <= {"images", "texts", "view_seed"}
    assert fields[("retrain", "down")] == {"kept", "labels", "representations", "revised"}  # the last is null here
    shapes = [tuple(f["shape"]) for r in toy.ledger.rows() for f in r["fields"]]
    parameters = [v for state in toy.clients().values() for k, v in state.items() if k.startswith("context/model/")]
    assert not {v.shape for v in parameters} & {s for s in shapes if len(s) > 1 and SAMPLES not in s}

    payloads = [row["payload"] for row in crossed]
    weights = [v.tobytes()[:64] for v in parameters]
    for name, modality in clients.items():
        samples = private_of(name, modality, "private")
        weights += (
            [image.tobytes()[:64] for image in samples.images]
            if modality == "image"
            else [text.encode() for text in samples.texts]
        )
    assert not any(secret in payload for secret in weights for payload in payloads)
    contract = METHOD.contract(toy.settings)
    for row in crossed:  # everything that crossed reads as what the contract declares
        message = decode(row["payload"], contract.types(row["verb"], row["direction"]))
        contract.check(row["verb"], message, row["direction"])


def test_a_lesson_on_samples_that_were_not_shown(tiny_generator):
    settings = FedMMKTSettings(retrain_steps=1, private_steps=1).model_dump(mode="json")
    half = client("image-0", "image", "fedmmkt", settings)
    lesson = FedMMKTTargets(np.ones(4, dtype=bool), np.zeros(4, dtype=np.int32))
    with pytest.raises(ValueError, match="round 1: asked to learn from 4 samples it was not shown"):
        half.retrain(lesson, round=1)
    half.infer(FedMMKTPictures(np.zeros((5, 12, 12, 3), dtype=np.uint8), 0), round=1)
    with pytest.raises(ValueError, match="round 1: asked to learn from 4 samples"):
        half.retrain(lesson, round=1)


@pytest.mark.parametrize(("samples", "steps"), [(7, 5), (63, 40), (64, 40), (500, 40), (1, 1)])
def test_few_samples_are_not_overlearned(samples, steps):
    assert (
        FedMMKTSettings(passes=20).steps_on(samples, 40, 32) == steps
    )  # 20 passes over 7 samples are 140: 4.4 batches


def test_all_clients_see_the_same_view():
    settings = FedMMKTSettings(variant="u").model_dump(mode="json")
    texts = FedMMKTCaptions(("a red tall flower",) * 3, 7)
    one, two = (client("text-0", "text", "fedmmkt", settings).infer(texts, round=t) for t in (1, 2))
    assert np.array_equal(one.augmented, two.augmented)
    other = client("text-0", "text", "fedmmkt", settings).infer(FedMMKTCaptions(texts.texts, 9), round=1)
    assert np.array_equal(one.representations, other.representations)


# ------------------------------------------------------------------------------------------------------ bytes


@pytest.mark.parametrize(("variant", "up", "down"), [("full", 2.35, 7.13), ("l", 0.31, 4.78)])
def test_table_x(variant, up, down):
    """The paper's figures from the server's own account: N = 8, S = 100, C = 102, d = 768, pictures of 64 px."""
    from types import SimpleNamespace

    from fedloom.methods.fedmmkt import FedMMKTServer
    from fedloom.methods.workload import paper_bytes

    federation = SimpleNamespace(clients_of=lambda modality: ("a", "b", "c", "d"))
    work = FedMMKTServer.workload(FedMMKTSettings(variant=variant, samples=100), batch=32)
    context = SimpleNamespace(class_names=["x"] * 102, width=768, generator=SimpleNamespace(size=64))
    formula = paper_bytes(work.formula, federation, context)
    assert (round(formula[0] / MB, 2), round(formula[1] / MB, 2)) == (up, down)


@pytest.mark.parametrize("variant", ["full", "u", "l"])
def test_upload_is_what_the_formula_says(variant):
    """S = 100, D = 64: the values of the answers are the formula's to the byte; with headers and losses, within 5 %."""
    from fedloom.methods.base import Done
    from fedloom.metrics.communication import round_bytes

    s, d, c = 100, 64, 10
    z, labels, spread = np.ones((s, d), "f4"), np.ones(s, "i4"), np.ones(s, "f4")
    answer = {
        "full": FedMMKTOutputs(z, labels, spread),
        "u": FedMMKTViewedOutputs(z, labels, spread, None, z),
        "l": FedMMKTLogits(np.ones((s, c), "f4")),
    }[variant]
    name = {"full": "fedmmkt", "u": "u-fedmmkt", "l": "l-fedmmkt"}[variant]
    formula = round_bytes(name, s, 1, 0, c, d).up
    encoded = len(encode(answer)) + len(encode(Done(1.0)))
    assert formula <= encoded <= 1.05 * formula


def test_upload_as_measured(tiny_generator):
    toy = Toy(tiny_generator, samples=100)
    info = toy.run(1)[0]
    answers = [r for r in toy.ledger.rows() if (r["verb"], r["direction"]) == ("infer", "up")]
    assert sum(r["payload_bytes"] for r in answers) == info.formula[0] == 4 * 100 * (4 * WIDTH + 8)
    losses = 8 * len(CLIENTS)  # the reply to `retrain`, which the paper does not count
    assert toy.ledger.totals(1)[0] == info.formula[0] + losses
