"""Annotators of unknown reliability."""

import pytest
import torch
import torch.nn.functional as F

from fedloom.errors import BadInput
from fedloom.functional.annotators import annotate, neighbours, reliability
from fedloom.functional.confusion import confusion_vote

# Four annotators' labels of 40 samples, and what crowd-kit 1.4.2's DawidSkene(n_iter=50, tol=0) makes of them.
SAID = (
    "2020101110111112102020202202221022101211",
    "1022101110210002001100022222001020202221",
    "2120121210220012002020222112001021101221",
    "2020111110220012102022222212001020121221",
)
CROWD_KIT = "2020111110220012002020222212001020101221"
CROWD_KIT_SUMS = (14.048, 10.962, 14.991)


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(labels.clamp(min=0), classes) * (labels >= 0)[..., None]


def test_labels_are_those_of_crowd_kit() -> None:
    answers = one_hot(torch.tensor([[int(c) for c in row] for row in SAID]), 3)
    posterior = annotate(answers, answers.sum(0), smoothing=1e-9).posterior
    assert "".join(map(str, posterior.argmax(1).tolist())) == CROWD_KIT
    # crowd-kit does not smooth how frequent classes are
    torch.testing.assert_close(posterior.sum(0), torch.tensor(CROWD_KIT_SUMS).double(), atol=0.03, rtol=0)


def some(seed: int = 0, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth (S,) and labels of five annotators, the first of which always errs in the same way, (V, S)."""
    torch.manual_seed(seed)
    truth = torch.randint(0, classes, (300,))
    said = [torch.where(torch.rand(300) < 0.35 + 0.1 * v, truth, torch.randint(0, classes, (300,))) for v in range(4)]
    return truth, torch.stack([(truth + 1) % classes, *said])


def test_of_labels_alone_it_is_the_confusion_vote() -> None:
    _, labels = some()
    labels[torch.rand(labels.shape) < 0.1] = -1
    answers = one_hot(labels, 6)
    start = answers[1:].sum(0)
    torch.testing.assert_close(annotate(answers, start).posterior, confusion_vote(labels, start.float()))


def test_what_was_learned_before_helps_a_small_round() -> None:
    truth, labels = some()
    answers = one_hot(labels, 6)
    known = annotate(answers[:, 20:], answers[1:, 20:].sum(0)).counts
    few, start = answers[:, :20], answers[:, :20].sum(0)
    alone, helped = (annotate(few, start, k).posterior.argmax(1) for k in (None, known))
    assert (helped == truth[:20]).float().mean() > (alone == truth[:20]).float().mean()
    assert reliability(known)[0].max() < 0.3  # who always errs


def test_an_unsure_answer_counts_less() -> None:
    _, labels = some()
    answers = one_hot(labels, 6).double()
    answers[4] = 0.9 / 6 + 0.1 * answers[4]
    sharp, dull = (annotate(a, answers[1:].sum(0)).posterior.amax(1).mean() for a in (one_hot(labels, 6), answers))
    assert dull < sharp


def test_less_evidence_is_less_sure() -> None:
    _, labels = some()
    answers = one_hot(labels, 6)
    sure, less = (annotate(answers, answers[1:].sum(0), weight=w).posterior.amax(1).mean() for w in (1.0, 0.25))
    assert less < sure


def test_no_answers_leave_it_at_what_is_believed_before() -> None:
    found = annotate(torch.zeros(2, 4, 3), torch.zeros(4, 3))
    torch.testing.assert_close(found.posterior, torch.full((4, 3), 1 / 3).double())
    assert not found.counts.any()


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_what_is_no_share_is_refused(wrong: float) -> None:
    answers = torch.full((2, 4, 3), 1 / 3)
    answers[1, 2, 0] = wrong
    with pytest.raises(BadInput, match="answers of annotators"):
        annotate(answers, torch.ones(4, 3))


def test_neighbours_believe_what_looks_alike() -> None:
    belief = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    own = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])
    turned = own[:, [2, 0, 1]]  # another client's space
    present = torch.tensor([[True, True, True, False]]).expand(2, 4)
    found = neighbours(torch.stack([own, turned]), present, belief, sure=0.9)
    assert found[2, 0] > 0.95
    assert not found[3].any()
    assert found[0, 1] == 1.0  # of sure samples the other alone: none looks at itself
