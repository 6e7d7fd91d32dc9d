"""What the methods on representations of public pairs have in common, and each one's own belief."""

from __future__ import annotations

import dataclasses
import functools
import logging

import numpy as np
import pytest
import torch
from toy_sites import ONE_EACH, PAIRED, PAIRS, WIDTH, Toy, public_pairs, same

from fedloom.errors import BadInput
from fedloom.federation.exchange import Reply
from fedloom.functional.norms import unit
from fedloom.functional.similarity import weight_entropy
from fedloom.methods.context import rows
from fedloom.methods.retrieval_messages import GlobalRepresentations, Views, kinds_of
from fedloom.methods.state import read_state, write_state

TALKING = [m for m in PAIRED if m != "r-standalone"]
TWO_EACH = {f"{m}-{i}": m for m in ("image", "text", "pair") for i in range(2)}
AFD = "fedafd"
VARIANTS = [
    *((m, {}) for m in PAIRED),
    (AFD, {"adversary": "grl", "local_epochs": 2, "private_steps": 3, "gff_reset_each_round": True}),
    (AFD, {"adversary": "minimax", "encoders": "whole", "stop_collapse": True}),
    (AFD, {"encoder_share": 0.1, "gff_norm": "layer", "sed": False}),
]


def both(toy):
    return {"server": toy.server.state()[0], **toy.clients()}


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert same(one[name], two[name]), name


@pytest.mark.parametrize("method", PAIRED)
def test_two_rounds(method):
    toy = Toy(None, method, clients=TWO_EACH)
    before = both(toy)
    infos = toy.run()
    assert toy.federation.missing == []
    for info in infos:
        assert all(np.isfinite(v) for v in info.losses.values() if v is not None)
        assert info.losses["server matching"] > 0
        assert info.losses["clients"] > 0
    after = both(toy)
    for name in before:
        moved = [k for k in before[name] if k.startswith(("models/", "context/model/")) and "matching" not in k]
        assert not any(np.array_equal(before[name][k], after[name][k]) for k in moved if "head" not in k), name
    if method == "r-standalone":
        return
    assert toy.server.holders == set(TWO_EACH)
    for kind in ("image", "text"):
        entropy = infos[-1].losses[f"weight entropy {kind}"]
        assert 0 <= entropy <= np.log(4) + 1e-6  # four clients own the kind
    assert set(infos[0].seconds) == {"server", "clients", "fusion"}


@pytest.mark.parametrize("method", PAIRED)
def test_same_seed_same_bits_in_any_order_of_clients(method):
    """Whatever was drawn from torch's global stream before: the server's dropout must not mind."""
    toys = []
    for names in (list(TWO_EACH), list(TWO_EACH)[::-1]):
        toys.append(Toy(None, method, clients={k: TWO_EACH[k] for k in names}))
        torch.manual_seed(len(toys))
        toys[-1].run()
    assert_equal(both(toys[0]), both(toys[1]))


@pytest.mark.parametrize(("method", "settings"), VARIANTS)
def test_resumed_equals_unbroken(method, settings, tmp_path):
    unbroken = Toy(None, method, clients=ONE_EACH, **settings)
    unbroken.run(1)
    unbroken.federation.checkpoint(tmp_path)
    write_state(unbroken.server.state(), tmp_path / "server.safetensors")
    torch.manual_seed(1)
    unbroken.run(1)

    resumed = Toy(None, method, clients=ONE_EACH, **settings)
    resumed.federation.restore(tmp_path)
    resumed.server.load_state(*read_state(tmp_path / "server.safetensors"))
    torch.manual_seed(2)
    resumed.run(1)
    assert resumed.federation.missing == []
    assert_equal(both(unbroken), both(resumed))
    for name in ONE_EACH:
        one, two = (toy.half(name).evaluate(None, round=2) for toy in (unbroken, resumed))
        assert one.accuracy == two.accuracy
        kept = [{k: v.stride() for k, v in toy.half(name).public.items()} for toy in (unbroken, resumed)]
        assert kept[0] == kept[1]  # a convolution's last bits depend on it
    assert resumed.ledger.totals(2) == unbroken.ledger.totals(2)


# ------------------------------------------------------------------------------------------------ what is left out


def listen(toy):
    """What the server hears: kind -> (z, present) of the last round."""
    heard = {}
    ensemble = toy.server.ensemble

    def hear(m, z, present, bank):
        heard[m] = (z.clone(), present.clone())
        return ensemble(m, z, present, bank)

    toy.server.ensemble = hear
    return heard


def altered(toy, name, **changes):
    """Has a client send something else."""
    half = toy.half(name)
    learn = half.learn

    def other(message, *, round):
        said = learn(message, round=round)
        found = {k: change(getattr(said, k)) for k, change in changes.items()}
        return dataclasses.replace(said, **found)

    half.learn = other


ALTERED = {
    "another set": {"public": lambda name: "another set"},
    "too few": {"image": lambda z: z[:-1], "text": lambda z: z[:-1]},
    "too wide": {
        "image": lambda z: np.pad(z, ((0, 0), (0, 1))),
        "text": lambda z: np.pad(z, ((0, 0), (0, 1))),
    },
    "half of it": {"text": lambda z: None},
    "not a number": {"image": lambda z: z * np.nan},
    "half precision": {"image": lambda z: z.astype(np.float16)},
}


@functools.cache
def without_one(method):
    toy = Toy(None, method, clients=TWO_EACH, broken={"pair-1": {"fault": "raise learn"}})
    toy.run(1)
    return toy.server.state()[0]


@pytest.mark.parametrize("how", ALTERED)
@pytest.mark.parametrize("method", [AFD, "r-fedmd"])
def test_an_answer_that_does_not_fit_is_left_out_and_the_others_count(method, how, caplog):
    toy = Toy(None, method, clients=TWO_EACH)
    altered(toy, "pair-1", **ALTERED[how])
    heard = listen(toy)
    with caplog.at_level(logging.WARNING):
        (info,) = toy.run(1)
    assert {m: len(z) for m, (z, _) in heard.items()} == {"image": 3, "text": 3}
    assert info.losses["distillation"] > 0
    refused = how in ("not a number", "half precision")  # already at the site
    assert [m.client for m in toy.federation.missing] == ["pair-1"] * refused
    assert refused or "pair-1 answered about" in caplog.text
    expected, state = without_one(method), toy.server.state()[0]
    assert same(expected, state)


@pytest.mark.parametrize("method", TALKING)
def test_rows_that_are_not_finite_are_absent(method):
    """The model of image-0 spoils row 2: for that sample the other owner counts alone."""
    toy = Toy(None, method, clients=TWO_EACH, broken={"image-0": {"spoilt": (2,)}})
    heard = listen(toy)
    (info,) = toy.run(1)
    assert toy.federation.missing == []
    z, present = heard["image"]
    absent = torch.ones(4, PAIRS, dtype=torch.bool)
    absent[0, 2] = False  # clients in the order of their names
    assert torch.equal(present, absent)
    assert torch.isfinite(z).all()
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values() if v.dtype.kind == "f")
    assert np.isfinite(info.losses["weight entropy image"])


@pytest.mark.parametrize("method", TALKING)
def test_a_kind_without_an_owner_is_not_distilled(method):
    toy = Toy(None, method, clients={"text-0": "text"}, server_steps=0, together=False)
    before = toy.server.state()[0]
    (info,) = toy.run(1)
    after = toy.server.state()[0]
    assert "weight entropy image" not in info.losses
    assert all(np.array_equal(before[k], after[k]) for k in before if k.startswith("models/image/"))


def test_a_client_that_failed_to_take_the_set_is_sent_it_again():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH)
    half = toy.half("text-0")
    hold, half.hold = half.hold, _lost
    heard = listen(toy)
    toy.run(1)
    assert toy.server.holders == {"image-0", "pair-0"}
    assert len(heard["text"][0]) == 1
    half.hold = hold
    toy.run(1)
    assert len(heard["text"][0]) == 2
    asked = [(r["round"], r["client"]) for r in toy.ledger.rows() if (r["verb"], r["direction"]) == ("hold", "down")]
    assert sorted(asked) == [(1, "image-0"), (1, "pair-0"), (1, "text-0"), (2, "text-0")]


def _lost(message, *, round):
    raise RuntimeError("out of luck")


def test_a_client_that_forgot_all_is_sent_the_set_after_it_says_so():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH)
    toy.run(1)
    toy.half("text-0").public_name = ""
    toy.run(2)
    assert [(m.round, m.client) for m in toy.federation.missing] == [(2, "text-0")]
    assert "holds ''" in toy.federation.missing[0].detail


def test_a_quorum_larger_than_what_is_left_to_ask():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH, broken={"text-0": {"fault": "raise hold"}})
    toy.server.context = dataclasses.replace(toy.server.context, quorum=3)
    (info,) = toy.run(1)
    assert info.losses["distillation"] > 0


def test_nobody_holds_the_set():
    broken = {k: {"fault": "raise hold"} for k in ONE_EACH}
    (info,) = Toy(None, AFD, clients=ONE_EACH, broken=broken).run(1)
    assert info.losses["clients"] is None
    assert info.losses["distillation"] is not None  # its matching goes on, as Standalone's does


def test_a_server_without_encoders_or_pairs_is_refused():
    with pytest.raises(BadInput, match="needs encoders on the server"):
        Toy(None, "r-fedmd", clients=ONE_EACH, tools={"models": None})
    with pytest.raises(BadInput, match="no generic part"):
        Toy(None, "r-fedmd", clients=ONE_EACH, tools={"public": None})


def test_the_set_is_what_there_is_and_its_name_is_of_what_it_holds():
    one, two = (Toy(None, "r-fedmd", clients=ONE_EACH, public=n) for n in (600, PAIRS))
    assert len(one.server.pairs) == PAIRS
    assert one.server.name == two.server.name
    pairs = public_pairs()
    words = dataclasses.replace(pairs, captions=(*pairs.captions[:-1], "another"))
    images = dataclasses.replace(pairs, images=255 - pairs.images)
    names = {one.server.name}
    for other in (words, images, public_pairs(6)):
        names.add(Toy(None, "r-fedmd", clients=ONE_EACH, tools={"public": other}).server.name)
    assert len(names) == 4


# -------------------------------------------------------------------------------------------------------- the wire


@pytest.mark.parametrize("method", PAIRED)
def test_nothing_crosses_but_what_is_declared(method):
    """Up: representations of the kinds that a client owns, to the byte. Down: nothing that a client trains."""
    toy = Toy(None, method, clients=ONE_EACH)
    toy.run()
    seen = {(r["direction"], r["verb"]): set() for r in toy.ledger.rows()}
    for row in toy.ledger.rows():
        names = {f["name"] for f in row["fields"]}
        seen[row["direction"], row["verb"]] |= names
        if (row["direction"], row["verb"]) == ("up", "learn"):
            kinds = kinds_of(ONE_EACH[row["client"]])
            assert names == {"public", "loss", "image", "text"}
            arrays = [f for f in row["fields"] if f["name"] in kinds]
            assert all(f["bytes"] == 0 for f in row["fields"] if f["name"] in {"image", "text"} - {*kinds})
            assert all(f["shape"] == [PAIRS, WIDTH] and f["dtype"] == "float32" for f in arrays)
            assert row["payload_bytes"] == 4 * PAIRS * WIDTH * len(kinds) + 16 + 8
    if method == "r-standalone":
        assert set(seen) == {("down", "train"), ("up", "train")}
        assert not toy.server.holders
        assert all(f["bytes"] <= 8 for r in toy.ledger.rows() for f in r["fields"])
        return
    assert set(seen) == {(d, v) for d in ("down", "up") for v in ("hold", "learn")}
    assert seen["up", "hold"] == {"loss"}
    assert seen["down", "hold"] == {"name", "images", "texts"}
    down = {"public", "image", "text"}
    if method.startswith(AFD):
        body = {f"encoders[{m}.body.{p}]" for m in ("image", "text") for p in ("weight", "bias")}
        down |= body | {"base", "version", "progress"}
    assert seen["down", "learn"] == down


def test_a_client_is_sent_its_own_side_of_the_set_alone():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH)
    toy.run(1)
    held = {k: set(toy.half(k).public) for k in ONE_EACH}
    texts = {"input_ids", "attention_mask"}
    assert held == {"image-0": {"pixel_values"}, "text-0": texts, "pair-0": {"pixel_values"} | texts}


def test_what_is_said_is_of_unit_length():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH)
    toy.run(1)
    for name in ONE_EACH:
        for z in toy.half(name).spoken().values():
            torch.testing.assert_close(z.norm(dim=1), torch.ones(PAIRS))


def test_an_image_client_has_no_say_on_texts():
    """Whatever it sends besides."""
    toy = Toy(None, "r-fedmd", clients=ONE_EACH)
    altered(toy, "image-0", text=lambda nothing: np.ones((PAIRS, WIDTH), np.float32))
    heard = listen(toy)
    toy.run(1)
    assert len(heard["text"][0]) == 2


# ---------------------------------------------------------------------------------------------- what is believed


def server(method, **settings):
    return Toy(None, method, clients=ONE_EACH, **settings).server


@pytest.fixture(scope="module")
def scene():
    """z (3, P, D) of three clients, the first near to the server's own kind; and the server's banks."""
    torch.manual_seed(0)
    bank = {m: unit(torch.randn(PAIRS, WIDTH)) for m in ("image", "text")}
    z = torch.stack([bank["image"] + s * torch.randn(PAIRS, WIDTH) for s in (0.1, 1.0, 5.0)])
    return unit(z), torch.ones(3, PAIRS, dtype=torch.bool), bank


@pytest.mark.parametrize("method", [m for m in TALKING if m != "fedafd-oracle"])  # which believes no client
def test_one_client_is_believed_as_it_is_or_not_at_all(method, scene):
    z, present, bank = scene
    present = present[:1].clone()
    present[0, 4] = False
    said = z[:1].masked_fill(~present[..., None], 0.0)
    target, entropy = server(method).ensemble("image", said, present, bank)
    kept = target.any(1)
    assert not kept[4]
    torch.testing.assert_close(target[kept], z[0][kept])
    if method != "r-fedgems":
        assert kept.sum() == PAIRS - 1
    assert entropy == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("method", TALKING)
def test_equal_clients_weigh_the_same_and_their_order_is_nothing(method, scene):
    z, present, bank = scene
    one = server(method)
    alike, _ = one.ensemble("image", z[:1].expand(3, -1, -1), present, bank)
    single, _ = one.ensemble("image", z[:1], present[:1], bank)
    torch.testing.assert_close(alike, single)
    order = torch.tensor([2, 0, 1])
    first, entropy = one.ensemble("image", z, present, bank)
    second, again = one.ensemble("image", z[order], present, bank)
    torch.testing.assert_close(first, second)
    assert entropy == pytest.approx(again)
    assert 0 <= entropy <= np.log(3) + 1e-6


def test_fedmd_is_the_mean_and_has_nothing_to_say_at_first(scene):
    z, present, bank = scene
    one = server("r-fedmd")
    assert one.targets("image-0", "image", bank) == GlobalRepresentations(one.name)
    target, entropy = one.ensemble("image", z, present, bank)
    torch.testing.assert_close(target, z.mean(0))
    assert entropy == pytest.approx(np.log(3))
    assert np.array_equal(one.targets("image-0", "image", bank).image, target.numpy())
    assert one.targets("image-0", "image", bank).text is None


def test_fedmd_sends_nothing_to_learn_from_in_the_first_round():
    toy = Toy(None, "r-fedmd", clients=ONE_EACH)
    toy.run()
    rows = [r for r in toy.ledger.rows() if (r["direction"], r["verb"]) == ("down", "learn")]
    assert {r["payload_bytes"] for r in rows if r["round"] == 1} == {16}
    assert {r["payload_bytes"] for r in rows if r["round"] == 2} == {16 + 2 * 4 * PAIRS * WIDTH}


def test_fedgems_believes_who_is_right_where_the_server_is_wrong():
    """Partners are rows of the identity. The server is right about 0 alone; of the others, 1: the first client is
    right and sure, the second right and less sure, the third wrong; 2: nobody is right."""
    one = server("r-fedgems", score_temperature=0.1)
    eye = torch.eye(WIDTH)
    bank = {"text": eye, "image": eye.roll(1, 0)}
    bank["image"][0] = eye[0]
    z = eye.roll(1, 0).repeat(3, 1, 1)
    z[:, 0] = eye[0]
    z[0, 1] = eye[1]
    z[1, 1] = unit(eye[1] + 0.9 * eye[2])
    target, entropy = one.ensemble("image", z, torch.ones(3, WIDTH, dtype=torch.bool), bank)
    assert target.any(1).nonzero().flatten().tolist() == [1]
    nats = [torch.special.entr((10 * z[k, 1]).softmax(0)).sum() for k in (0, 1)]
    share = torch.stack([1 / n for n in nats])
    share = share / share.sum()
    torch.testing.assert_close(target[1], share[0] * z[0, 1] + share[1] * z[1, 1])
    assert entropy == pytest.approx(float(weight_entropy(share[:, None])) / WIDTH, rel=1e-5)


def test_fedgems_with_nobody_right_changes_nothing():
    toy = Toy(None, "r-fedgems", clients=ONE_EACH, server_steps=0, together=False)
    wrong = toy.server.public
    before = toy.server.state()[0]
    bank = {m: torch.eye(PAIRS, WIDTH) for m in wrong}
    bank["text"] = -torch.ones(PAIRS, WIDTH)  # all partners alike: nobody tells them apart
    views = {"image-0": Views(toy.server.name, 1.0, torch.eye(PAIRS, WIDTH).numpy())}
    told = toy.server.distil(1, toy.federation, views, bank)
    assert told == {"weight entropy image": 0.0}
    after = toy.server.state()[0]
    assert same(before, after)


def test_fed_et_weighs_by_variance(scene):
    z, present, bank = scene
    target, _ = server("r-fed-et").ensemble("image", z, present, bank)
    weights = (z @ bank["text"].T).var(-1, correction=0)
    torch.testing.assert_close(target, (z * (weights / weights.sum(0))[..., None]).sum(0))


def test_creamfl_weighs_by_the_partner_among_all(scene):
    z, present, bank = scene
    target, _ = server("r-creamfl", tau=0.3).ensemble("image", z, present, bank)
    scores = ((z @ bank["text"].T) / 0.3).log_softmax(-1).diagonal(dim1=1, dim2=2)  # (K, P)
    torch.testing.assert_close(target, (z * scores.softmax(0)[..., None]).sum(0))


@pytest.mark.parametrize("method", ["r-fedmd", "r-creamfl"])
def test_clients_learn_from_what_they_are_sent(method):
    """Without pull or contrast the lesson does not matter; with it, it does."""
    weight = "pull" if method == "r-fedmd" else "contrast_weight"
    states = {}
    for value in (0.0, 1.0):
        for sign in (1, -1):
            toy = Toy(None, method, clients=ONE_EACH, **{weight: value})
            toy.server.share(toy.federation)
            torch.manual_seed(3)
            z = {m: sign * unit(torch.randn(PAIRS, WIDTH)).numpy() for m in ("image", "text")}
            for name in ONE_EACH:
                toy.half(name).learn(GlobalRepresentations(toy.server.name, **z), round=1)
            states[value, sign] = toy.clients()
    for name in ONE_EACH:
        assert same(states[0.0, 1][name], states[0.0, -1][name])
        assert not same(states[1.0, 1][name], states[1.0, -1][name])


def test_pull_by_hand():
    """|z - t|^2, mean over the batch, over the kinds; a row of zeros pulls nowhere."""
    half = Toy(None, "r-fedmd", clients=ONE_EACH, pull=2.0).half("pair-0")
    eye = torch.eye(WIDTH)
    i = torch.tensor([0, 1])
    targets = {"image": eye.flip(0).clone(), "text": eye.clone()}
    targets["image"][1] = 0
    z = {"image": eye[:2], "text": eye[:2]}
    assert half.shared_loss(z, i, targets).item() == pytest.approx(2.0 * ((2 + 0) / 2 + 0) / 2)
    assert half.shared_loss(z, i, {}).item() == 0.0


def test_standalone_takes_as_many_steps_as_the_others():
    for method in PAIRED:
        toy = Toy(None, method, clients=ONE_EACH)
        toy.run(1)
        optimizers = [toy.server.optimizer, *(toy.half(k).context.optimizer for k in ONE_EACH)]
        taken = {int(o.state_dict()["state"][0]["step"]) for o in optimizers}
        assert taken <= ({2, 4} if method == "r-fedgems" else {4}), method


FAIR = [
    *((m, {}) for m in PAIRED),
    *((AFD, s) for s in ({"baa": False}, {"beside": False}, {"gff": False}, {"baa_warmup_rounds": 1}, {"sed": False})),
]


@pytest.mark.parametrize(("method", "settings"), FAIR, ids=str)
def test_all_rows_of_a_comparison_have_the_same_private_batches_and_the_same_loss(method, settings):
    """Four batches of eight a round, whatever is left out, and the classes spread in all of them."""
    toy = Toy(None, method, clients=ONE_EACH, **settings)
    name = "_task_loss" if method.startswith(AFD) else "task_loss"
    seen = {k: [] for k in ONE_EACH}
    for k in ONE_EACH:
        half = toy.half(k)
        setattr(half, name, _counted(getattr(half, name), seen[k]))
    toy.run(1)
    assert seen == dict.fromkeys(ONE_EACH, [8] * 4)
    plain = Toy(None, method, clients=ONE_EACH, **settings, spread=0.0)
    plain.run(1)
    same_head = [same(*(x.clients()[k] for x in (toy, plain))) for k in ("image-0", "text-0")]
    assert same_head == [False, False]


def _counted(loss, seen):
    def counted(views, index, *more):
        seen.append(len(index))
        return loss(views, index, *more)

    return counted


def test_creamfls_clients_of_pairs_add_both_directions_between_kinds():
    """Its code sums loss_1_inter and loss_2_inter, and takes one mean over both kinds' rows within."""
    half = Toy(None, "r-creamfl", clients=ONE_EACH).half("pair-0")
    torch.manual_seed(0)
    z, bank, half.said = ({m: unit(torch.randn(PAIRS, WIDTH)) for m in ("image", "text")} for _ in range(3))
    i, parts = torch.arange(3), {}
    for m, other in (("image", "text"), ("text", "image")):
        x = z[m][:3]
        between = torch.nn.functional.cross_entropy(x @ bank[other].T / 0.5, i)
        both = torch.stack([(x * bank[m][:3]).sum(1), (x * half.said[m][:3]).sum(1)], 1) / 0.5
        parts[m] = between, -both.log_softmax(1)[:, 0].mean()
    inter = parts["image"][0] + parts["text"][0]
    intra = (parts["image"][1] + parts["text"][1]) / 2
    found = half.shared_loss({m: v[:3] for m, v in z.items()}, i, bank)
    torch.testing.assert_close(found, 0.5 * (inter + intra))


# ---------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("method", TALKING)
def test_no_p_by_p_matrix_is_ever_held(method):
    """P = 4000: 16 million numbers would be one. What is largest holds tile x P, and the public set itself."""
    p, largest = 4000, {}

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest[str(func)] = max(largest.get(str(func), 0), out.untyped_storage().size() // out.itemsize)
            return out

    toy = Toy(None, method, clients=ONE_EACH, public=p, tools={"public": public_pairs(p)})
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, p, WIDTH)).astype(np.float32)
    views = {
        "image-0": Views(toy.server.name, 1.0, z[0]),
        "pair-0": Views(toy.server.name, 1.0, z[1], z[2]),
        "text-0": Views(toy.server.name, 1.0, None, z[3]),
    }
    bank = toy.server.bank()
    with Watch():
        told = toy.server.distil(1, toy.federation, views, bank)
    assert "weight entropy image" in told
    assert max(largest.values()) <= p * p / 4, sorted(largest.items(), key=lambda x: -x[1])[:3]


def test_a_reply_is_judged_by_its_own_kind():
    one = server("r-fedmd")
    z = np.ones((PAIRS, WIDTH), np.float32)

    def fits(modality, **views):
        return one._fits(Reply("c", modality, "learn", 1, Views(one.name, 0.0, **views)))

    assert fits("image", image=z)
    assert not fits("image", text=z)
    assert not fits("pair", image=z)
    assert fits("pair", image=z, text=z)


def test_the_server_embeds_any_pictures_and_texts():
    one = server("r-standalone")
    for kind, samples in (("image", one.pairs.images[:3]), ("text", one.pairs.texts[:3])):
        z = one.embed(kind, samples)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(z, one.bank()[kind][:3])


def test_without_distillation_steps_or_weight_the_clients_do_not_reach_the_server():
    """No steps: the server is as matching alone leaves it. What is believed is told all the same."""
    toys = [Toy(None, m, clients=ONE_EACH, distill_steps=0) for m in ("r-fed-et", "r-standalone")]
    infos = [toy.run()[-1] for toy in toys]
    assert same(*(toy.server.state()[0] for toy in toys))
    assert infos[0].losses["distillation"] is None
    assert "weight entropy text" in infos[0].losses


@pytest.mark.parametrize(("distance", "expected"), [("mse", 2 / WIDTH), ("l2", 2**0.5)])
def test_distillation_by_hand(distance, expected):
    """Unit rows at right angles: |difference|^2 = 2. One step's loss is taken before the step."""
    alone = {"together": False, "gamma": 0.5, "distill_steps": 1}
    toy = Toy(None, "r-fed-et", clients=ONE_EACH, distance=distance, **alone)
    z = toy.server.bank()["image"]
    across = unit(torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(0)))
    across = unit(across - (across * z).sum(1, keepdim=True) * z)
    for site in toy.server.models.values():
        site.model.unit = False  # no dropout; rows are brought to unit length anyway
    views = {"image-0": Views(toy.server.name, 0.0, 7 * across.numpy())}
    told = toy.server.distil(1, toy.federation, views, toy.server.bank())
    assert told["distillation"] == pytest.approx(0.5 * expected, rel=1e-4)


def test_together_a_step_is_of_matching_and_of_distillation():
    """The gradient of matching on training views + gamma times the distance of the kind that has an owner."""
    toy = Toy(None, "r-fed-et", clients=ONE_EACH, gamma=0.5)
    one, heard = toy.server, []
    one._fit = lambda t, what, steps, loss, wanted=None: heard.append((steps, loss, wanted))
    target = unit(torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(0)))
    target[3] = 0  # nobody knows it
    one.distil(1, toy.federation, {"image-0": Views(one.name, 0.0, target.numpy())}, one.bank())
    ((steps, loss, wanted),) = heard
    assert (steps, wanted) == (2, None)  # no batch is left out: each has pairs to match
    for site in one.models.values():
        site.model.eval()  # no dropout
    owned = [p for site in one.models.values() for p in site.model.body.parameters()]
    owned += list(one.matching.parameters())
    i = torch.tensor([3, 0, 7, 5])

    def draws():
        return {m: torch.Generator().manual_seed(1) for m in one.models}

    views = {m: s.views(rows(one.public[m], i), draws()[m]) for m, s in one.models.items()}
    seen = {m: unit(one.models[m].model.encode(**views[m])) for m in views}
    image = one.models["image"]
    known = unit(image.model.encode(**image.ready(rows(one.public["image"], i[1:]))))
    slow = one.matching(seen["image"], seen["text"]) / 4
    slow = slow + 0.5 * (known - target[i[1:]]).square().mean()
    fast = loss(i, draws())
    torch.testing.assert_close(fast, slow)
    for a, b in zip(torch.autograd.grad(fast, owned), torch.autograd.grad(slow, owned)):
        assert b.abs().sum() > 0
        torch.testing.assert_close(a, b)


def test_together_a_kind_without_an_owner_still_matches():
    """Also where the distillation weighs nothing."""
    for gamma in (0.0, 0.4):
        toy = Toy(None, "r-fed-et", clients={"text-0": "text"}, server_steps=0, gamma=gamma)
        before = toy.server.state()[0]
        (info,) = toy.run(1)
        after = toy.server.state()[0]
        moved = [k for k in before if k.startswith("models/image/model/body")]
        assert moved
        assert not any(np.array_equal(before[k], after[k]) for k in moved)
        assert not np.array_equal(before["matching/scale"], after["matching/scale"])
        assert "weight entropy image" not in info.losses
        # Nats of matching; a distance of unit rows is at most 4 / WIDTH.
        assert info.losses["distillation"] > 1


@pytest.mark.parametrize("method", TALKING)
def test_longer_rows_earn_nothing(method):
    """64 times as long, which rounds nothing: the server hears the same bits."""
    heard = []
    for length in (1, 64):
        toy = Toy(None, method, clients=ONE_EACH)
        altered(toy, "pair-0", image=lambda z, by=length: by * z, text=lambda z, by=length: by * z)
        heard.append(listen(toy))
        toy.run(1)
    assert all(torch.equal(heard[0][m][0], heard[1][m][0]) for m in ("image", "text"))
