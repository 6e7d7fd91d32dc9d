"""Rounds of the methods on representations of public pairs: same bits, resumed, and what crosses the wire."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paired_toys import AFD, TALKING, TWO_EACH, altered, both, listen
from toy_sites import ONE_EACH, PAIRED, PAIRS, WIDTH, Toy, public_pairs, same

from fedloom.methods.retrieval_messages import Views, kinds_of
from fedloom.methods.state import read_state, write_state

VARIANTS = [
    *((m, {}) for m in PAIRED),
    (AFD, {"adversary": "grl", "local_epochs": 2, "private_steps": 3, "gff_reset_each_round": True}),
    (AFD, {"adversary": "minimax", "encoders": "whole", "stop_collapse": True}),
    (AFD, {"encoder_share": 0.1, "gff_norm": "layer", "sed": False}),
]


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
