"""Eqs. 6-10 together, 28-30 and 33."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.attention import LearnedCrossAttention, cross_attention
from fedloom.functional.contrast import contrast_weights
from fedloom.functional.fusion import (
    balanced,
    fuse,
    fuse_logits,
    fuse_modalities,
    fuse_views,
    mean_over,
    weight_entropy,
)
from reference import fusion as slow

A = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
B = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])


def test_golden_fusion() -> None:
    both = torch.stack([A, B])
    got = fuse(both, contrast_weights(both, A))
    expected = torch.tensor([[0.880797, 0.119203], [0.192510, 0.807490], [-1.0, 0.0]])
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)
    sharp = fuse(both, contrast_weights(both, A, temperature=0.1))
    torch.testing.assert_close(sharp[:2], A[:2], atol=1e-3, rtol=0)


def test_one_client_is_itself_and_equal_weights_are_the_mean() -> None:
    torch.manual_seed(0)
    z = torch.randn(4, 6, 3)
    torch.testing.assert_close(fuse(z[:1], contrast_weights(z[:1], z[1])), z[0])
    torch.testing.assert_close(fuse(z, torch.full((4, 6), 0.25)), z.mean(0))


def test_fusion_stays_in_the_hull_of_the_clients() -> None:
    torch.manual_seed(1)
    z = torch.randn(5, 20, 3)
    fused = fuse(z, contrast_weights(z, torch.randn(20, 3)))
    assert (fused <= z.amax(0) + 1e-6).all()
    assert (fused >= z.amin(0) - 1e-6).all()


def test_mean_over_present_clients() -> None:
    torch.manual_seed(2)
    z, present = torch.randn(4, 9, 3), torch.rand(4, 9) < 0.5
    present[:, 0] = False
    z[~present] = math.nan
    got = mean_over(z, present)
    torch.testing.assert_close(got, torch.tensor(slow.mean_over(z.tolist(), present.tolist())))
    assert got[0].tolist() == [0.0] * 3
    torch.testing.assert_close(mean_over(z.nan_to_num(), torch.ones_like(present)), mean_over(z.nan_to_num()))


@pytest.mark.parametrize("mode", ["paired", "batch", "chunk", "mha"])
@pytest.mark.parametrize("options", [{}, {"anchor": "enhanced", "balance": True, "include_self": True}])
@pytest.mark.parametrize("absences", [False, True])
@pytest.mark.parametrize(("k_image", "k_text", "m"), [(3, 1, 6), (1, 2, 1)])
def test_fuse_modalities_against_the_slow_reference(
    mode: Any, options: dict[str, Any], absences: bool, k_image: int, k_text: int, m: int
) -> None:
    torch.manual_seed(3)
    image, text = torch.randn(k_image, m, 8), 4 * torch.randn(k_text, m, 8)
    here = torch.ones(k_image, m, dtype=torch.bool), torch.ones(k_text, m, dtype=torch.bool)
    if absences:
        here = torch.rand(k_image, m) < 0.6, torch.rand(k_text, m) < 0.6
        here[0][:, 0] = here[1][:, 0] = False
        image[~here[0]], text[~here[1]] = math.nan, math.inf
    module = LearnedCrossAttention(8, 4) if mode == "mha" else None
    got = fuse_modalities(
        image,
        text,
        image_present=here[0] if absences else None,
        text_present=here[1] if absences else None,
        mode=mode,
        heads=4,
        attention_temperature=0.2,
        temperature=0.5,
        module=module,
        **options,
    )
    settings = {"anchor": "raw", "balance": False, "include_self": False, **options}
    r, alpha = slow.fuse_modalities(
        image.tolist(),
        text.tolist(),
        here[0].tolist(),
        here[1].tolist(),
        mode=mode,
        temperature=0.5,
        attention_temperature=0.2,
        heads=4,
        **settings,
    )
    torch.testing.assert_close(got.weights, torch.tensor(alpha), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.representation, torch.tensor(r), atol=1e-4, rtol=1e-4)
    if absences:
        assert (got.weights[:, 0] == 0).all()
        assert (got.representation[0] == 0).all()


def test_fuse_modalities_does_not_mind_order() -> None:
    torch.manual_seed(4)
    image, text = torch.randn(3, 7, 8), torch.randn(2, 7, 8)
    first = fuse_modalities(image, text)
    clients = fuse_modalities(image[[2, 0, 1]], text[[1, 0]])
    torch.testing.assert_close(clients.representation, first.representation)
    torch.testing.assert_close(clients.weights, first.weights[[2, 0, 1, 4, 3]])
    swapped = fuse_modalities(text, image)
    torch.testing.assert_close(swapped.representation, first.representation)
    samples = torch.randperm(7)
    shuffled = fuse_modalities(image[:, samples], text[:, samples])
    torch.testing.assert_close(shuffled.representation, first.representation[samples])


def test_permuting_the_other_modality_changes_no_attention() -> None:
    torch.manual_seed(5)
    image, text = torch.randn(2, 5, 8), torch.randn(3, 5, 8)
    for mode in ("paired", "batch"):
        a = cross_attention(image, mean_over(text), mode)
        torch.testing.assert_close(a, cross_attention(image, mean_over(text[[2, 0, 1]]), mode))


def test_fused_representations_carry_no_gradient() -> None:
    image = torch.randn(2, 4, 8, requires_grad=True)
    assert not fuse_modalities(image, torch.randn(2, 4, 8)).representation.requires_grad


def test_balance_makes_modalities_equal_when_scores_are() -> None:
    present = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    s = balanced(torch.zeros(4, 2), ["image", "image", "image", "text"], present)
    alpha = s.masked_fill(~present, -math.inf).softmax(0)
    torch.testing.assert_close(alpha[:3].sum(0), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(alpha[3], torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="2 groups for 4 clients"):
        balanced(s, ["a", "b"])


def test_fuse_modalities_refuses_what_it_cannot_do() -> None:
    z = torch.randn(2, 3, 8)
    with pytest.raises(ValueError, match="each with a client"):
        fuse_modalities(z, z[:0])
    with pytest.raises(ValueError, match=r"\(2, 3, 8\) and text \(2, 2, 8\)"):
        fuse_modalities(z, z[:, :2])
    with pytest.raises(BadInput, match="needs its module"):
        fuse_modalities(z, z, mode="mha")
    with pytest.raises(BadInput, match="unknown anchor"):
        fuse_modalities(z, z, anchor="row")
    with pytest.raises(ValueError, match="present"):
        fuse_modalities(z, z, image_present=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="weights"):
        fuse(z, torch.ones(3, 2))
    with pytest.raises(ValueError, match="no clients"):
        mean_over(z[:0])


@pytest.mark.parametrize("absences", [False, True])
def test_fuse_views_against_the_slow_reference(absences: bool) -> None:
    torch.manual_seed(6)
    z, views = torch.randn(3, 8, 5), torch.randn(3, 8, 5)
    present = torch.rand(3, 8) < (0.6 if absences else 2.0)
    z[~present] = views[~present] = math.nan
    got = fuse_views(z, views, present=present)
    r, alpha = slow.fuse_views(z.tolist(), views.tolist(), present.tolist())
    torch.testing.assert_close(got.weights, torch.tensor(alpha), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.representation, torch.tensor(r), atol=1e-5, rtol=1e-4)


def test_views_of_one_client_and_of_equal_clients() -> None:
    torch.manual_seed(7)
    z = torch.randn(1, 6, 4)
    alone = fuse_views(z, z)  # augmentation = identity
    torch.testing.assert_close(alone.weights, torch.ones(1, 6))
    torch.testing.assert_close(alone.representation, z[0])
    same = fuse_views(z.expand(4, 6, 4), z.expand(4, 6, 4))
    torch.testing.assert_close(same.weights, torch.full((4, 6), 0.25))
    with pytest.raises(ValueError, match="differ in shape"):
        fuse_views(z, z[:, :2])


def test_logits_of_three_classes_by_hand() -> None:
    """Two samples, an image client and a text client: each one's anchor is the other; cosines are +-1 or 1/2.

    Centred unit vectors of the classes have cosine -1/2 with one another. The text client agrees with the image client
    on sample 0 and names a third class on sample 1, so both have scores (1 - c, ...) that can be written down.
    """
    image = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    text = torch.tensor([[6.0, 0.0, 0.0], [0.0, 0.0, 6.0]])
    # s_image = (1 + 1/2, -1/2 + 1/2), s_text = (1 + 1/2, -1/2 + 1/2): equal, so plain means.
    got = fuse_logits(torch.stack([image, text]), ["image", "text"])
    torch.testing.assert_close(got, torch.tensor([[4.5, 0.0, 0.0], [0.0, 1.5, 3.0]]))
    assert got.argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("modality", [["image", "text", "text", "image"], ["image"] * 4, ["a", "b", "c", "b"]])
def test_fuse_logits_against_the_slow_reference(modality: list[str], centre: bool) -> None:
    torch.manual_seed(8)
    logits = 3 * torch.randn(4, 7, 5) + 2
    got = fuse_logits(logits, modality, centre=centre)
    torch.testing.assert_close(got, torch.tensor(slow.fuse_logits(logits.tolist(), modality, centre)))


def test_a_constant_on_a_clients_logits_changes_no_label() -> None:
    torch.manual_seed(9)
    logits = torch.randn(3, 10, 4, dtype=torch.float64)
    moved = logits.clone()
    moved[1] += 50.0
    a, b = (fuse_logits(x, ["image", "text", "text"]) for x in (logits, moved))
    torch.testing.assert_close(b.softmax(1), a.softmax(1))


def test_clients_without_finite_logits_are_absent() -> None:
    torch.manual_seed(10)
    logits = torch.randn(3, 5, 4)
    logits[2, 1:, 0] = math.nan
    logits[:, 0] = math.inf
    got = fuse_logits(logits, ["image", "text", "text"])
    assert torch.isfinite(got).all()
    assert got[0].tolist() == [0.0] * 4
    present = torch.tensor([True, True, False])[:, None].expand(3, 5)
    torch.testing.assert_close(got, fuse_logits(logits, ["image", "text", "text"], present=present))
    with pytest.raises(ValueError, match="K = 2"):
        fuse_logits(logits, ["image", "text"])


def noisy(clients: int = 3, n: int = 120, d: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Representations of samples that image and text clients see alike, but for the last text client: noise."""
    torch.manual_seed(0)
    z = torch.randn(n, d)
    image, text = (z + 0.3 * torch.randn(clients, n, d) for _ in range(2))
    text[-1] = torch.randn(n, d)
    return image, text


def test_a_client_that_sends_noise_weighs_next_to_nothing() -> None:
    """Scored as sent, at a temperature that lets scores differ: less than a tenth of an even share."""
    image, text = noisy()
    weights = fuse_modalities(image, text, scored="raw", temperature=0.1).weights
    assert weights[-1].mean() < 0.1 / 6
    assert weights[:-1].mean(1).min() > 0.5 / 6
    even = fuse_modalities(image, text).weights  # attention puts the anchor into all that is scored
    assert even[-1].mean() > 0.5 / 6


def test_weight_entropy() -> None:
    assert weight_entropy(torch.full((4, 3), 0.25)) == pytest.approx(1.0)
    assert weight_entropy(torch.eye(4)) == 0.0
    assert weight_entropy(torch.tensor([[0.5], [0.5], [0.0], [0.0]])) == pytest.approx(0.5)
    assert weight_entropy(torch.ones(1, 3)) is None
    assert weight_entropy(torch.ones(2, 0)) is None
    image, text = noisy()
    entropies = [weight_entropy(fuse_modalities(image, text, **more).weights) for more in ({}, {"temperature": 0.1})]
    assert entropies[0] is not None
    assert entropies[1] is not None
    assert entropies[0] > 0.99 > entropies[1]
