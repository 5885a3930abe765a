"""Paired statistics: worked by hand, and beside every draw there is."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from pagesoak.study.paired import (
    DRAWS,
    SEEDS_TO_TELL_MIN,
    TAIL_PARTS,
    TAILS,
    difference,
    drawn_counts,
    mean_interval,
    runs_with_any_max,
    share_interval,
)

KILLS = [5, 0, 3, 9, 1, 4]
SPREAD = Fraction(2, 5)
"""Of the tail: a share of 0.24 % among ten thousand draws is so far off once in 10 000 times.
"""
WORD = (1 << 64) - 1


def test_a_difference_by_hand() -> None:
    found = difference([1, 2, 3, 4], [2, 2, 5, 3])
    assert found is not None
    assert found.mean == Fraction(-2, 4)
    assert (found.lower, found.equal, found.higher) == (2, 1, 1)
    assert (found.seeds, found.interval, found.told) == (4, None, False)


def test_nothing_is_compared_with_nothing() -> None:
    assert difference([], []) is None


def test_no_interval_below_six_seeds_however_clear() -> None:
    few = difference([0] * (SEEDS_TO_TELL_MIN - 1), [9] * (SEEDS_TO_TELL_MIN - 1))
    enough = difference([0] * SEEDS_TO_TELL_MIN, [9] * SEEDS_TO_TELL_MIN)
    assert few is not None
    assert enough is not None
    assert (few.told, enough.told) == (False, True)
    assert enough.interval == (-9, -9)


def test_seeds_that_disagree_tell_nothing() -> None:
    found = difference([5, -5, 6, -6, 1, -1], [0] * 6)
    assert found is not None
    assert found.interval is not None
    assert found.interval.low < 0 < found.interval.high
    assert not found.told


def everything(
    seeds: int, figure: Callable[[tuple[int, ...]], Fraction]
) -> list[tuple[Fraction, int]]:
    """Every possible draw: the values in order, with the number of draws up to each."""
    values = sorted(figure(chosen) for chosen in product(range(seeds), repeat=seeds))
    return [(value, number + 1) for number, value in enumerate(values)]


def at_share(ordered: Sequence[tuple[Fraction, int]], share: Fraction) -> Fraction:
    """The value that so large a share of all draws stays below."""
    rank = int(share * len(ordered))
    return ordered[min(len(ordered) - 1, max(0, rank))][0]


def test_the_interval_of_a_mean_is_that_of_all_draws() -> None:
    found = mean_interval(KILLS)
    assert found is not None
    every = everything(6, lambda chosen: Fraction(sum(KILLS[at] for at in chosen), 6))
    tail = Fraction(TAILS[6], TAIL_PARTS)
    spread = tail * SPREAD
    assert at_share(every, tail - spread) <= found.low <= at_share(every, tail + spread)
    assert at_share(every, 1 - tail - spread) <= found.high <= at_share(every, 1 - tail + spread)
    assert found.low < Fraction(sum(KILLS), 6) < found.high


def test_the_interval_of_a_share_is_that_of_all_draws() -> None:
    bursts = [40, 10, 30, 35, 20, 25]
    found = share_interval(KILLS, bursts)
    assert found is not None

    def share(chosen: tuple[int, ...]) -> Fraction:
        return Fraction(sum(KILLS[at] for at in chosen), sum(bursts[at] for at in chosen))

    every = everything(6, share)
    tail = Fraction(TAILS[6], TAIL_PARTS)
    spread = tail * SPREAD
    near = Fraction(1, 10**8)
    low, high = found
    assert at_share(every, tail - spread) - near <= low <= at_share(every, tail + spread) + near
    assert at_share(every, 1 - tail - spread) - near <= high
    assert high <= at_share(every, 1 - tail + spread) + near


def test_kills_that_cluster_in_one_run_make_the_interval_wide() -> None:
    spread = share_interval([3] * 8, [40] * 8)
    clustered = share_interval([24, 0, 0, 0, 0, 0, 0, 0], [40] * 8)
    assert spread is not None
    assert clustered is not None
    assert spread.high - spread.low == 0
    assert clustered.high - clustered.low > Fraction(1, 5)


def test_there_is_no_share_of_nothing() -> None:
    assert share_interval([0] * 8, [0] * 8) is None


def test_every_draw_has_as_many_seeds_as_there_are_and_each_comes_as_often() -> None:
    counts = drawn_counts(8)
    assert counts.shape == (DRAWS, 8)
    assert set(counts.sum(axis=1)) == {8}
    shares = counts.sum(axis=0) / DRAWS
    assert np.all(abs(shares - 1) < 0.05)


def splitmix(number: int) -> int:
    """The reference: Steele, Lea and Flood, 2014."""
    word = number * 0x9E3779B97F4A7C15 & WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
    return word ^ (word >> 31)


def test_draws_are_the_same_on_every_machine() -> None:
    drawn = [(splitmix(number) >> 32) * 3 >> 32 for number in range(1, 13)]
    rows = [drawn[at : at + 3] for at in range(0, 12, 3)]
    assert drawn_counts(3)[:4].tolist() == [[row.count(seed) for seed in range(3)] for row in rows]


@pytest.mark.parametrize("seeds", [8, 24])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    held = 0
    for _ in range(400):
        found = mean_interval([int(value) for value in random.normal(0, 1000, seeds)])
        assert found is not None
        held += found.low <= 0 <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_of_none_in_eight_runs_a_third_may_have_one() -> None:
    assert runs_with_any_max(8) == 0.312
    assert runs_with_any_max(1) == 0.95


def test_tails_grow_to_that_of_many_seeds() -> None:
    numbers = sorted(TAILS)
    assert numbers[0] == SEEDS_TO_TELL_MIN
    assert [TAILS[number] for number in numbers] == sorted(TAILS.values())
    assert TAILS[numbers[-1]] < TAIL_PARTS // 40
