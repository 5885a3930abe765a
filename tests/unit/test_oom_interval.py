"""The prediction interval: exact, for what is counted in several runs."""

from fractions import Fraction
from math import comb

import pytest

from pagesoak.study.oom_interval import Expected, expected_kills


def test_runs_that_are_all_alike_leave_no_doubt() -> None:
    assert expected_kills([[3, 3], [3], [0, 0, 0]]) == Expected(Fraction(6), 6, 6)


def test_a_row_without_kills() -> None:
    assert expected_kills([[0] * 96] * 6) == Expected(Fraction(0), 0, 0)


def test_bounds_are_those_of_the_binomial_distribution() -> None:
    """20 runs, each with or without one kill: 2.5 % lie below 6, 2.5 % above 14."""
    expected = expected_kills([[0, 1]] * 20)
    below = sum(comb(20, k) for k in range(expected.low))
    above = sum(comb(20, k) for k in range(expected.high + 1, 21))
    assert (expected.low, expected.high) == (6, 14)
    assert max(below, above) * 40 <= 2**20
    assert (below + comb(20, expected.low)) * 40 > 2**20
    assert expected.kills == 10


def test_clustered_kills_make_the_interval_wider() -> None:
    spread = expected_kills([[2, 2, 2, 2]] * 6)
    clustered = expected_kills([[0, 0, 0, 8]] * 6)
    assert spread.kills == clustered.kills == 12
    assert spread == Expected(Fraction(12), 12, 12)
    assert clustered.low == 0
    assert clustered.high == 32


def test_the_order_of_runs_and_counts_does_not_matter() -> None:
    runs = [[0, 1, 4], [2, 2, 3, 7], [0]]
    shuffled = [run[::-1] for run in runs[::-1]]
    assert expected_kills(runs) == expected_kills(shuffled)


@pytest.mark.parametrize(
    ("low", "high", "narrow"),
    [(0, 4, True), (0, 5, False), (1, 4, True), (3, 12, True), (3, 13, False), (20, 60, True)],
)
def test_an_interval_must_tell_something(low: int, high: int, *, narrow: bool) -> None:
    expected = Expected(Fraction(low), low, high)
    assert expected.is_narrow == narrow
    assert expected.holds(low)
    assert expected.holds(high)
    assert not expected.holds(high + 1)
    assert not expected.holds(low - 1)
