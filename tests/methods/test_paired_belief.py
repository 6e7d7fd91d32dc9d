"""What each method on public pairs believes of its clients, and what they learn from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paired_toys import AFD, TALKING, server
from toy_sites import ONE_EACH, PAIRED, PAIRS, WIDTH, Toy, same

from fedloom.functional.norms import unit
from fedloom.functional.similarity import weight_entropy
from fedloom.methods.retrieval_messages import GlobalRepresentations, Views


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
