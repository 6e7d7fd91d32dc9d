"""What is spent, against opacus' accountants; and noise that a seed does not give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant

from fedloom.errors import BadInput, FedloomError
from fedloom.privacy.accounting import TERMS, affordable, as_row, noise_multiplier, spent
from fedloom.privacy.book import read_book, write_book
from fedloom.privacy.randomness import mersenne_state, secret_torch_stream


def test_spent_is_what_the_accountant_says() -> None:
    history = [(1.1, 0.2, 30), (2.0, 1.0, 5)]
    accountant = RDPAccountant()
    accountant.history = list(history)
    assert spent(history, 1e-3) == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-9)
    assert spent([], 1e-3) == 0.0


def test_a_budget_holds_by_both_accountants() -> None:
    sigma = noise_multiplier(2.0, 1e-3, 0.25, 40)
    assert 1.95 < spent([(sigma, 0.25, 40)], 1e-3) <= 2.0
    tight = PRVAccountant()
    tight.history = [(sigma, 0.25, 40)]
    assert 1.0 < tight.get_epsilon(1e-3) <= 2.0


def test_no_noise_is_enough_for_nothing() -> None:
    with pytest.raises(BadInput, match="epsilon = 1e-06 at delta = 1e-09: no noise is enough for 100000 steps"):
        noise_multiplier(1e-6, 1e-9, 1.0, 100_000)
    assert noise_multiplier(1.0, 1e-3, 1.0, 0) == 0.0


def test_steps_are_allowed_up_to_the_budget() -> None:
    sigma = noise_multiplier(3.0, 1e-3, 1.0, 10)
    assert affordable([], sigma, 1.0, 4, 3.0, 1e-3) == 4
    assert affordable([], sigma, 1.0, 100, 3.0, 1e-3) == 10
    assert affordable([(sigma, 1.0, 7)], sigma, 1.0, 100, 3.0, 1e-3) == 3
    assert affordable([(sigma, 1.0, 10)], sigma, 1.0, 1, 3.0, 1e-3) == 0


def test_what_a_client_tells_by_name() -> None:
    told = as_row([1.5, 1e-3, 2.0, 12.0, 0.0, np.nan, np.nan, np.nan])
    assert told == {"epsilon": 1.5, "delta": 1e-3, "budget": 2.0, "steps": 12, "refused": 0}
    assert list(told) == list(TERMS[:5])


def test_a_whole_state_of_torchs_generator_can_be_drawn() -> None:
    """The same words give what NumPy's generator of that kind gives: the whole state is taken, not 32 bits of it."""
    known = np.random.MT19937(5)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.from_numpy(mersenne_state(known.state["state"]["key"].astype(np.uint32))))
        ours = torch.randint(0, 2**32, (300,), dtype=torch.int64).numpy()
    theirs = known.random_raw(601)[2::2]  # its last word of before comes first; of two draws ours are the second
    np.testing.assert_array_equal(ours, theirs[:300])


def test_secret_noise_is_new_each_time_and_leaves_the_stream() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with secret_torch_stream():
        one = torch.randn(4)
    with secret_torch_stream():
        two = torch.randn(4)
    assert not torch.equal(one, two)
    assert torch.equal(torch.rand(3), expected)


def test_a_book_is_read_as_written_and_a_spoilt_one_refused(tmp_path) -> None:
    path = tmp_path / "privacy" / "clinic.json"
    assert read_book(path) == ([], 0)
    write_book(path, [(1.5, 0.25, 12)], 3)
    assert read_book(path) == ([(1.5, 0.25, 12)], 3)
    path.write_text('{"steps": 5}')
    with pytest.raises(FedloomError, match="no record of what is spent"):
        read_book(path)
