"""FedAFD's clients: fusion on private data, alignment on public data, and neither."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fedafd_toys import CLIENT_TASKS, adversaries, taught, toy_of, weights
from toy_sites import ONE_EACH, PAIRS, WIDTH, client, same

from fedloom.functional.adversarial import reversal_coefficient, reverse_gradient
from fedloom.functional.norms import unit
from fedloom.methods.context import rows
from fedloom.methods.fedafd import FedAFDTargets
from fedloom.methods.retrieval_context import RetrievalContext
from fedloom.methods.retrieval_messages import kinds_of
from fedloom.models.fit import state_arrays

OFF = {"baa": False, "gff": False, "gamma": 0.0}


def batch_of(half):
    """Views and indices of four private samples, and g of all."""
    i = torch.tensor([0, 3, 5, 6])
    private = {k: v[i] for k, v in half.context.private.items()}
    return half.context.views(private, torch.Generator().manual_seed(0)), i, half.server.views("private")


# ----------------------------------------------------------------------------------------- fusion on private data


@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_the_tasks_gradient_reaches_encoder_and_fusion_and_never_the_servers_encoder(name):
    half, _ = taught(name)
    views, i, g = batch_of(half)
    assert all(not z.requires_grad for z in g.values())
    assert set(half.server.models) == set(g) == set(kinds_of(ONE_EACH[name]))
    half.context.optimizer.zero_grad(set_to_none=True)
    half._task_loss(views, i, g).backward()
    for module in (half.context.model, half.fusion):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        assert any(p.grad.any() for p in module.parameters())
    for site in half.server.models.values():
        assert all(p.grad is None for p in site.model.parameters())
    assert all(p.grad is None for d in (half.inner, half.cross) for p in d.parameters())


@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_what_a_client_is_scored_on_lies_between_its_own_and_the_servers(name):
    half, _ = taught(name)
    x, fused = half.context.encode(half.context.test), half.represent(half.context.test)
    g = half.server.views("test")
    g = torch.cat([g[m] for m in kinds_of(ONE_EACH[name])])
    assert x.shape == fused.shape == g.shape
    assert not torch.allclose(x, fused)
    assert ((fused >= torch.minimum(x, g)) & (fused <= torch.maximum(x, g))).all()
    assert not half.fusion.training
    assert half.evaluate(None, round=1).accuracy == half.context.score(fused)["accuracy"]


@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_without_fusion_the_client_is_on_its_own_and_no_encoder_is_sent(name):
    toy = toy_of(gff=False)
    toy.run()
    half = toy.half(name)
    assert torch.equal(half.represent(half.context.test), half.context.encode(half.context.test))
    assert half.server.views("private") == {}
    assert half.server.arrays == {}
    fields = {f["name"]: f["bytes"] for r in toy.ledger.rows() if r["verb"] == "learn" for f in r["fields"]}
    assert not any(size for field, size in fields.items() if field.startswith("encoders"))
    assert toy.server.paper_bytes(toy.federation) == (4 * 4 * PAIRS * WIDTH, 3 * 2 * 4 * PAIRS * WIDTH)


def test_each_caption_and_each_picture_is_fused_with_the_servers_of_its_own():
    """The fusion sees x of the batch's pictures and captions beside g of the same ones."""
    half, _ = taught("pair-0")
    site, seen = half.context, []
    assert isinstance(site, RetrievalContext)
    site.augment = False
    server = half.server.models
    half._fuse = lambda x, g: seen.append((x, g)) or x
    i = torch.tensor([4, 1, 2])
    private = rows(site.private, i)
    site.model.eval()
    half._task_loss(site.views(private, torch.Generator()), i, half.server.views("private"))
    (_, pictures), (_, captions) = seen
    owner = site.samples["private"].owner[i.numpy()]
    raw = {
        "image": server["image"].raw(site.samples["private"].images[owner]),
        "text": server["text"].raw([site.samples["private"].captions[int(n)] for n in i]),
    }
    torch.testing.assert_close(pictures, server["image"].encode(raw["image"]))
    torch.testing.assert_close(captions, server["text"].encode(raw["text"]))
    torch.testing.assert_close(seen[0][0], site.encode(rows(site.pictures, owner)))


def test_fusion_learns_at_its_own_rate_and_can_begin_anew():
    kept, anew = (taught("image-0", gff_reset_each_round=r)[0] for r in (False, True))
    groups = kept.context.optimizer.param_groups
    assert [g["lr"] for g in groups] == [2e-3, 5e-3]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in kept.fusion.parameters()}
    before = state_arrays(anew.fusion)
    anew._begin_fusion_anew(2)
    after = state_arrays(anew.fusion)
    assert not same(before, after)
    assert (
        after["local_branches.0.1.num_batches_tracked"],
        before["local_branches.0.1.num_batches_tracked"],
    ) == (0, 4)
    assert not any(p in anew.context.optimizer.state for p in anew.fusion.parameters())
    assert all(p in anew.context.optimizer.state for p in anew.context.model.parameters())


def test_one_private_sample_trains_with_either_norm():
    said = {}
    for norm in ("batch", "layer"):
        toy = toy_of(gff_norm=norm)
        half = toy.half("image-0")
        half.context.take(half.context.samples["private"].subset([3]), half.context.samples["test"])
        toy.run(1)
        said[norm] = [m.detail for m in toy.federation.missing]
    assert said == {"batch": [], "layer": []}


def test_a_site_that_does_not_know_the_servers_model_says_so():
    toy = toy_of()
    toy.half("text-0").context.server = None
    toy.run(1)
    assert [m.client for m in toy.federation.missing] == ["text-0"]
    assert "text-0 does not know the server's text model" in toy.federation.missing[0].detail


# ------------------------------------------------------------------------------------------ alignment on public data


@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_the_discriminators_step_leaves_the_client_bitwise_as_it_is(name):
    half, bank = taught(name)
    before, d = half.context.state()[0], adversaries(half)
    i = torch.arange(5)
    half._step(bank, {m: z[i] for m, z in half.spoken().items()}, i, 2)
    assert same(before, half.context.state()[0])
    assert all(not np.array_equal(v, d[k]) for k, v in adversaries(half).items())


@pytest.mark.parametrize("adversary", ["nonsat", "minimax"])
@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_the_encoders_step_leaves_the_discriminators_as_they_are(name, adversary):
    half, _ = taught(name, adversary=adversary)
    before, d, fusion = weights(half), adversaries(half), state_arrays(half.fusion)
    half.on_public(1, lambda z, i: half._against(z), 2)
    assert same(d, adversaries(half))
    assert same(fusion, state_arrays(half.fusion))
    assert all(p.grad is None for p in (*half.inner.parameters(), *half.cross.parameters()))
    moved = {k for k, v in weights(half).items() if not np.array_equal(v, before[k])}
    assert moved == {k for k in before if "body" in k}  # neither head nor matching


@pytest.mark.parametrize("adversary", ["nonsat", "minimax", "grl"])
def test_a_pass_moves_both_sides(adversary):
    half, bank = taught("pair-0", adversary=adversary)
    before, d = weights(half), adversaries(half)
    lesson = dataclasses.replace(_lesson(bank), progress=0.5)
    half._align(lesson, bank, half.server.views("private"), 2, 0)
    assert all(not np.array_equal(v, d[k]) for k, v in adversaries(half).items())
    assert all(not np.array_equal(v, before[k]) for k, v in weights(half).items() if "body" in k)
    steps = {int(v["step"]) for v in half.adversary.state_dict()["state"].values()}
    assert steps == {4}  # two of the round before
    assert all(p.grad is None for p in (*half.inner.parameters(), *half.cross.parameters()))
    assert 0 <= half.told_apart <= 1


def _lesson(bank):
    return FedAFDTargets("", bank["image"].numpy(), bank["text"].numpy())


def test_reversal_is_the_printed_loss_in_one_pass():
    """At the schedule's end, the encoder's gradient is that of log(1 - D(x)), the discriminators' that of their own."""
    half, bank = taught("image-0")
    z, i = torch.randn(4, WIDTH, requires_grad=True), torch.arange(4)
    half.settings = half.settings.model_copy(update={"adversary": "minimax"})
    (expected,) = torch.autograd.grad(half._against({"image": z}), z)
    turned = reverse_gradient(z, reversal_coefficient(1.0))
    (got,) = torch.autograd.grad(half._apart(bank, {"image": turned}, i), z)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_adversarial_losses_by_hand(name):
    """A client of one kind has two comparisons, one of pairs four with one pair of discriminators."""
    half, bank = taught(name)
    i = torch.arange(4)
    z = {m: x[i] for m, x in half.spoken().items()}

    def nats(logits, right):
        p = logits.sigmoid()
        return -(p if right else 1 - p).log().mean()

    d_loss = e_loss = 0.0
    for m, x in z.items():
        other = {"image": "text", "text": "image"}[m]
        for d, kind in ((half.inner, m), (half.cross, other)):
            d_loss = d_loss + nats(d(bank[kind][i]), True) + nats(d(x), False)
            e_loss = e_loss + nats(d(x), True)
    assert half._apart(bank, z, i).item() == pytest.approx(d_loss.item(), rel=1e-5)
    assert half._against(z).item() == pytest.approx(e_loss.item(), rel=1e-5)


def test_a_collapse_pauses_the_encoder_and_not_the_discriminators():
    half, bank = taught("pair-0", stop_collapse=True)
    half.told_apart, g = 0.995, half.server.views("private")
    before, d = half.context.state()[0], adversaries(half)
    assert half._align(_lesson(bank), bank, g, 2, 0) == 0  # private batches: they come alone, behind
    assert same(before, half.context.state()[0])
    assert all(not np.array_equal(v, d[k]) for k, v in adversaries(half).items())
    assert half.told_apart < 0.99  # nobody tells them apart after so few steps
    assert half._align(_lesson(bank), bank, g, 2, 1) == 2
    assert not same(before, half.context.state()[0])
    go_on, bank = taught("pair-0", stop_collapse=False)
    go_on.told_apart, before = 0.995, weights(go_on)
    go_on._align(_lesson(bank), bank, go_on.server.views("private"), 2, 0)
    assert not same(before, weights(go_on))


def test_warm_up_rounds_are_without_alignment():
    toy = toy_of(baa_warmup_rounds=1)
    before = {k: adversaries(toy.half(k)) for k in ONE_EACH}
    toy.run(1)
    assert all(same(before[k], adversaries(toy.half(k))) for k in ONE_EACH)
    toy.run(1)
    assert not any(same(before[k], adversaries(toy.half(k))) for k in ONE_EACH)


def test_discriminators_learn_to_tell_two_kinds_apart():
    """Constant rows that are opposite to the server's: after some hundred steps nearly all are told apart."""
    half = client("image-0", "image", "fedafd", {"discriminator_rate": 1e-2})
    up = unit(torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.1 + 1)
    bank, i = {"image": up, "text": up}, torch.arange(PAIRS)
    assert half._accuracy(bank, {"image": up}, i) == 0.5  # the same rows on both sides
    for _ in range(60):
        half._step(bank, {"image": -up}, i, 1)
    assert half._accuracy(bank, {"image": -up}, i) == 1.0


# ------------------------------------------------------------------------------------------------- nothing of it


@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_with_all_parts_off_a_client_is_what_private_steps_make_of_it(name):
    toy = toy_of(**OFF, spread=0.0)
    first = toy.half(name)
    state, d = weights(first), adversaries(first)
    toy.run()
    alone = client(name, ONE_EACH[name], "fedafd", {**OFF, "spread": 0.0, "public": PAIRS})
    assert same(weights(alone), state)
    for t in (1, 2):
        alone.context.fit(alone.context.private, 4, alone.context.task_loss, t, 0, "private")
    assert same(alone.context.state()[0], toy.half(name).context.state()[0])
    assert same(d, adversaries(toy.half(name)))


@pytest.mark.parametrize(("beside", "encoder", "fusion"), [(True, 8, 8), (False, 11, 8)])
@pytest.mark.parametrize("name", CLIENT_TASKS)
def test_turns_share_the_steps_of_a_round(name, beside, encoder, fusion):
    """8 private batches either way, 3 of them with alignment in the same step, or that in steps of its own."""
    half, _ = taught(name, local_epochs=2, private_steps=5, shared_steps=3, beside=beside)
    taken = half.context.optimizer.state_dict()["state"]
    assert taken[0]["step"] == encoder
    assert {int(v["step"]) for v in half.adversary.state_dict()["state"].values()} == {3}
    assert half.context.optimizer.state[next(iter(half.fusion.parameters()))]["step"] == fusion


def test_spread_is_a_part_of_the_task_of_classifiers():
    half = client("text-0", "text", "fedafd", {"spread": 0.5})
    none = client("text-0", "text", "fedafd", {"spread": 0.0})
    i = torch.arange(4)
    views = {k: v[i] for k, v in half.context.private.items()}
    for one in (half, none):
        one.context.model.eval()
    v = half.context.model.head.weight.relu()
    expected = 0.5 * torch.nn.functional.cross_entropy(v @ v.T, torch.arange(2))
    torch.testing.assert_close(half._task_loss(views, i, {}) - none._task_loss(views, i, {}), expected)
