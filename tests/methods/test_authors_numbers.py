"""Baselines beside their authors' public code: values and gradients that it gave on small fixed tensors, in double.

The numbers were printed by the authors' own functions, at the commits named. None of their code is here.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedloom.functional.adversarial import discriminator_loss, encoder_loss
from fedloom.functional.contrast import contrast_weights
from fedloom.functional.distillation import softened
from fedloom.functional.ensemble import grouped
from fedloom.functional.infiltration import class_temperatures, confidence, infiltration_loss
from fedloom.functional.matching import class_spread, margin_cross_entropy, matching_loss
from fedloom.functional.norms import unit
from fedloom.functional.similarity import distillation_distance, similarity_ensemble
from fedloom.methods.creamfl import inter_contrast, intra_contrast
from fedloom.methods.feddat import dual_loss
from fedloom.methods.fedmd import distance
from fedloom.methods.fedproto import class_prototypes, prototype_loss
from fedloom.methods.ogm_ge import coefficients, stream_scores
from fedloom.methods.pmr import prototype_scores
from fedloom.models.clients.multimodal import MultimodalClassifier
from fedloom.models.granularity import GranularityFusion
from fedloom.tasks import Modality


def wave(*shape: int, phase: float = 0.0, scale: float = 2.0) -> Tensor:
    """scale sin(1.7 i + phase), i = 0, 1, ...: fixed numbers without a generator."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * (1.7 * steps + phase).sin()).view(*shape)


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def close(found: Tensor | None, expected: list[list[float]] | list[float], abs: float = 2e-8) -> None:
    assert found is not None
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=abs)


# FedMEKT's code adds 1e-7 to the teacher's probabilities, which its numbers show in the sixth digit.
MEKT = [
    [-0.20455328, 0.11479723, 0.11553444, -0.02577839],
    [-0.18567765, 0.19667132, 0.07385885, -0.08485253],
    [-0.06216715, 0.17747471, 0.03754735, -0.15285491],
]


def test_fedmekts_transfer() -> None:
    """Agent2H/FedMEKT, utils/train_utils.py, KL_Loss(temperature=3)."""
    z = leaf(wave(3, 4))
    loss = softened(z, wave(3, 4, phase=0.9, scale=3.0), 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(1.24690309, abs=5e-6)
    close(z.grad, MEKT, abs=5e-7)


def test_feddats_losses() -> None:
    """HaokunChen245/FedDAT 8ed970aa, task_trainer.py: kl_loss, and L_1 and L_0 of `train_step`, with cross-entropy."""
    z1, teacher = leaf(wave(3, 4)), leaf(wave(3, 4, phase=0.9, scale=3.0))
    assert softened(z1, teacher, 3.0).item() == pytest.approx(1.24689995, abs=1e-8)
    loss = dual_loss(z1, teacher, torch.tensor([1, 0, 3]), 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(1.25447722 + 1.09530168, abs=2e-8)
    close(
        z1.grad,
        [
            [-0.08380681, 0.02495028, 0.06884628, -0.00998975],
            [-0.20464601, 0.19917439, 0.04196639, -0.03649476],
            [0.07603132, 0.13121847, 0.02158258, -0.22883237],
        ],
    )
    close(
        teacher.grad,
        [
            [0.21375037, -0.1741507, -0.05708657, 0.01748689],
            [0.06966581, -0.09036222, -0.03655484, 0.05725125],
            [0.14307731, -0.0870944, -0.01818257, -0.03780034],
        ],
    )


def test_fedprotos_prototypes_and_distance() -> None:
    """yuetan031/FedProto 97e42e27: agg_func of lib/utils.py, and the loss of update_weights_het (nobody has class 1).

    Its proto_aggregation gives {0: (3, 1), 2: (5, 5)} for what `test_who_weighs_what_and_a_silent_class_stays` sends.
    """
    rows = torch.stack([wave(3), wave(3, phase=0.5), wave(3, phase=1.0), wave(3, phase=2.0)])
    means, _ = class_prototypes(rows, torch.tensor([0, 0, 0, 2]), 3)
    close(means[0].double(), [0.88059768, 1.4850274, -1.26327289], abs=2e-7)
    close(means[2].double(), [1.81859485, -1.05967228, -1.54552898], abs=2e-7)
    h = leaf(torch.tensor([[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]], dtype=torch.float64))
    prototypes = torch.tensor([[0.0, 0.0], [math.nan] * 2, [3.0, 0.0]], dtype=torch.float64)
    loss = prototype_loss(h, torch.tensor([0, 2, 1]), prototypes)
    loss.backward()
    assert loss.item() == pytest.approx(0.83333333, abs=1e-8)
    close(h.grad, [[0.33333333, 0.0], [0.0, 0.66666667], [0.0, 0.0]])


class Stream(nn.Module):
    """A linear stream without a bias."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.width = len(weight)
        self.body = nn.Linear(*weight.T.shape, bias=False, dtype=torch.float64)
        self.body.weight.data = weight

    def encode(self, pixel_values: Tensor) -> Tensor:
        return self.body(pixel_values)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("tie", "k", "sound", "sight"),
    [
        (
            False,
            (1.0, 0.23151269),
            [0.32097092, -0.28154243, -0.24842054, 0.34555767],
            [-0.00302205, 0.132635, -0.03115652, -0.12460631],
        ),
        (
            True,
            (0.33596323, 1.0),
            [0.03975302, -0.12570652, -0.00735984, 0.12760307],
            [0.11832552, -0.3741675, -0.02190668, 0.37981261],
        ),
    ],
)
def test_ogms_coefficients_and_slowed_gradients(
    tie: bool, k: tuple[float, float], sound: list[float], sight: list[float]
) -> None:
    """GeWu-Lab/OGM-GE_CVPR2022 343dc1d9, main.py, train_epoch: concat, OGM, alpha = 0.8. At a tie sound is slowed."""
    x = [wave(5, 4), wave(5, 4, phase=0.0 if tie else 1.1)]
    streams = [Stream(wave(4, 4)), Stream(wave(4, 4, phase=0.0 if tie else 0.9))]
    model = MultimodalClassifier(streams, (Modality.AUDIO, Modality.IMAGE), 3).double()
    head = wave(3, 4, phase=0.3, scale=1.0), wave(3, 4, phase=0.3 if tie else 2.0, scale=1.0)
    model.fusion.out.weight.data = torch.cat(head, 1)
    model.fusion.out.bias.data = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    h = {m: s.encode(v) for m, s, v in zip(model.kinds, streams, x, strict=True)}
    F.cross_entropy(model.fusion(*h.values()), labels).backward()
    found = coefficients(*(confidence(stream_scores(model, m, h[m]), labels).detach() for m in model.kinds), 0.8)
    assert found == pytest.approx(k, abs=2e-8)
    for stream, factor, expected in zip(streams, found, (sound, sight), strict=True):
        assert stream.body.weight.grad is not None
        close(factor * stream.body.weight.grad[0], expected)


def test_pmrs_scores_and_lesson() -> None:
    """fanyunfeng-bit/Modal-Imbalance-PMR 3615e489, main_Prototype_grad.py: EU_dist, loss_proto, and score_p."""
    h, labels = leaf(wave(4, 5)), torch.tensor([0, 2, 1, 1])
    scores = prototype_scores(h, wave(3, 5, phase=0.9))
    loss = F.cross_entropy(scores, labels)
    loss.backward()
    close(scores[0], [-2.78472977, -5.85809637, -3.09534746])
    assert loss.item() == pytest.approx(2.52346636, abs=1e-8)
    assert confidence(scores, labels).sum().item() == pytest.approx(0.82780542, abs=1e-8)
    close(
        h.grad,
        [
            [-0.11565622, 0.01242679, 0.11245397, -0.04140494, -0.10178437],
            [0.04189268, -0.08328824, -0.02043021, 0.08855289, -0.00238889],
            [-0.07670454, 0.20754891, 0.02322147, -0.21353283, 0.03180358],
            [0.13641193, 0.05420486, -0.15037992, -0.01545361, 0.15436215],
        ],
    )


def test_fedmds_digest() -> None:
    """diogenes0319/FedMD_clean, FedMD.py: Keras's mean_absolute_error on scores, mean over all elements."""
    scores = leaf(wave(3, 4))
    loss = distance(scores, wave(3, 4, phase=0.9))
    loss.backward()
    assert loss.item() == pytest.approx(1.15045077, abs=1e-8)
    t = 1 / 12
    close(scores.grad, [[-t, t, t, -t], [-t, t, t, -t], [-t, t, -t, -t]])


def test_creamfls_private_loss() -> None:
    """FLAIR-THU/CreamFL 264252cf, ClientTrainer.tra: the margin of 4 (inter_distance), and half of center_loss."""
    logits, weight = leaf(wave(4, 3)), leaf(wave(3, 5, phase=0.4, scale=1.0))
    known = margin_cross_entropy(logits, torch.tensor([0, 2, 1, 1]), 4.0)
    apart = class_spread(weight)
    (known + apart).backward()
    assert known.item() == pytest.approx(5.88744517, abs=1e-8)
    assert apart.item() == pytest.approx(0.52129761 / 2, abs=1e-8)
    close(
        logits.grad,
        [
            [-0.24941929, 0.23040086, 0.01901844],
            [0.01337653, 0.22891665, -0.24229318],
            [0.0105823, -0.24977176, 0.23918945],
            [0.1869955, -0.24977354, 0.06277804],
        ],
    )
    close(
        weight.grad,
        [
            [-0.01270475, -0.08226957, 0.0, 0.0, -0.09166876],
            [-0.04040229, 0.0, 0.0, -0.1298684, 0.05048175],
            [0.0, 0.02380547, -0.14565668, 0.0, 0.0],
        ],
    )


def test_creamfls_contrasts() -> None:
    """The same, loss_inter and loss_moon: logits of unit vectors over 0.5, weighed 0.5."""
    z = leaf(wave(3, 4))
    texts, pictures, old = wave(5, 4, phase=0.7), wave(5, 4, phase=1.3), wave(3, 4, phase=0.2)
    own = torch.tensor([4, 0, 2])
    inter, intra = inter_contrast(z, texts, own, 0.5), intra_contrast(z, pictures[own], old, 0.5)
    (0.5 * (inter + intra)).backward()
    assert (inter.item(), intra.item()) == pytest.approx((1.99744984, 2.16983242), abs=1e-8)
    close(
        z.grad,
        [
            [0.07204265, -0.0006361, -0.07187873, 0.01915845],
            [-0.00385, 0.00256027, 0.00319025, -0.00338237],
            [-0.03483229, 0.07922138, 0.01441781, -0.08293669],
        ],
    )


AGGREGATE = [
    [0.42379227, 0.36071815, -0.51674537],
    [-0.31834675, 0.61970243, 0.15865626],
    [-0.56294726, 0.02461696, 0.55660373],
    [-0.06025661, -0.69564802, 0.23951745],
]


def test_creamfls_ensemble_and_distillation() -> None:
    """The same, MMFL.aggregation (con_w; P = 4) and the mean squared error to it: not brought back to unit length."""
    z = torch.stack([unit(wave(4, 3, phase=p)) for p in (0.0, 0.8, 2.1)])
    found = grouped(z, contrast_weights(z, unit(wave(4, 3, phase=0.5)), 1.0, include_self=True))
    close(found, AGGREGATE)
    server = leaf(unit(wave(4, 3, phase=1.9)))
    loss = distillation_distance(server, found)
    loss.backward()
    assert loss.item() == pytest.approx(0.33624291, abs=1e-8)
    close(
        server.grad,
        [
            [0.04744976, -0.11533855, -0.01772828],
            [0.14082591, -0.01471639, -0.13703366],
            [0.02349277, 0.14350568, -0.0604726],
            [-0.10850208, 0.12193727, 0.07708019],
        ],
    )


def test_fedafds_ensemble() -> None:
    """Chao2433/FedAFD e320b5fc, MMFL_fedafd.py, aggregation (SED): CreamFL's arithmetic on the own kind's bank."""
    z = torch.stack([unit(wave(4, 3, phase=p)) for p in (0.0, 0.8, 2.1)])
    close(similarity_ensemble(z, unit(wave(4, 3, phase=0.5))).representations, AGGREGATE)


def test_fedafds_adversaries() -> None:
    """The same, ClientTrainer_fedafd.tra: losses of outputs of `Discriminator`, which ends in a sigmoid."""
    local, far = leaf(wave(6)), wave(6, phase=0.6)
    found = discriminator_loss(far, local.detach(), legacy_double_sigmoid=True)
    loss = encoder_loss(local, legacy_double_sigmoid=True)
    loss.backward()
    assert (found.item(), loss.item()) == pytest.approx((1.48060349, 0.4545405), abs=1e-8)
    close(local.grad, [-0.01573086, -0.00519924, -0.01591101, -0.00911071, -0.01072317, -0.00707944])


def test_fedafds_fusion() -> None:
    """The same, iAFF(channels=8): weights wave(shape, phase 0.1 k, scale 0.5) in the order of its parameters."""
    fusion = GranularityFusion(8, 4, legacy_share_global=True).double()
    (first, second), (shared, unused) = fusion.local_branches, fusion.global_branches
    ordered = [p for branch in (first, shared, second, unused) for p in branch.parameters()]
    for k, p in enumerate(ordered):
        p.data = wave(*p.shape, phase=0.1 * k, scale=0.5)
    x = leaf(unit(wave(4, 8)))
    found = fusion(x, unit(wave(4, 8, phase=0.7)))
    (found.square() * torch.arange(1.0, 9.0, dtype=torch.float64)).sum().backward()
    close(
        found[0],
        [0.09022894, 0.4090949, -0.35376074, -0.40965585, 0.31851158, 0.23054093, -0.48036028, -0.171806],
    )
    close(
        found[3],
        [-0.18202538, -0.41499284, 0.24360269, 0.43766539, -0.35943055, -0.27463461, 0.45534192, 0.16666805],
    )
    assert x.grad is not None
    close(
        x.grad[0],
        [0.10642723, 0.55885762, -0.52360172, -2.27260618, 2.32594032, 1.05673987, -1.6933676, -1.53784346],
    )
    close(
        x.grad[3],
        [-0.14439437, -0.51652583, 0.82602131, 2.70180744, -1.81611275, -1.55855315, 2.37112038, 1.30342235],
    )


def test_matching_of_clients_of_pairs() -> None:
    """CreamFL's criterions/probemb.py, MCSoftContrastiveLoss with one sample an item, as FedAFD has it too."""
    x, y = leaf(unit(wave(3, 4))), unit(wave(3, 4, phase=0.3))
    scale, shift = (torch.tensor(15.0, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = matching_loss(x, y, scale, shift)
    loss.backward()
    assert loss.item() == pytest.approx(119.33823687, abs=1e-6)
    assert scale.grad is not None
    assert shift.grad is not None
    assert (shift.grad.item(), scale.grad.item()) == pytest.approx((19.84136371, -11.91240144), abs=1e-6)
    close(
        x.grad,
        [
            [36.69697795, -18.74244476, -31.86725632, 26.95428581],
            [-15.8408089, -17.29832965, 20.29839797, 12.067656],
            [-52.65095381, 66.05337684, 35.62972594, -75.23476488],
        ],
        abs=1e-6,
    )


def test_fedcmis_temperatures_and_lesson() -> None:
    """fanyunfeng-bit/Balanced-Modality-Selection-in-MFL 14c762c, client/FedCMI.py, _train: class_wise_temp, loss_rd."""
    first, second = (torch.tensor(v, dtype=torch.float64) for v in ([0.9, 0.6, 0.5, 0.8], [0.3, 0.5, 0.4, 0.7]))
    tau = class_temperatures(first, second)
    close(tau.double(), [0.45499224, 1.0, 1.0, 1.0], abs=2e-7)
    close(class_temperatures(second, first).double(), [0.39786469, 1.0, 1.0, 1.0], abs=2e-7)
    student = leaf(wave(3, 4))
    loss = infiltration_loss(student, wave(3, 4, phase=0.9), torch.tensor([0, 2, 1]), tau)
    loss.backward()
    assert loss.item() == pytest.approx(2.02603367, abs=2e-7)
    close(
        student.grad,
        [
            [-0.54662068, 0.54898568, 0.00267935, -0.00504435],
            [-0.13099772, 0.16662542, 0.00550998, -0.04113767],
            [0.01736709, 0.07316492, -0.0003502, -0.09018182],
        ],
        abs=2e-7,
    )
