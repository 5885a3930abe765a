"""How often a dead worker is replaced, how soon, and what a run says of it."""

import random

import pytest

from pagesoak.base import statistics as st
from pagesoak.base.errors import HarnessError
from pagesoak.engine.recovery_figures import LENGTHS_MAX, Lengths, RecoveryFigures, quantile
from pagesoak.engine.restarts import (
    BACKOFF_FIRST_SECONDS,
    BACKOFF_MAX_SECONDS,
    CHAOS_RESTARTS_MAX,
    JITTER,
    RESTARTS_MAX,
    WINDOW_SECONDS,
    Restarts,
)


def restarts(*, chaos: bool = False) -> Restarts:
    until = WINDOW_SECONDS if chaos else 0.0
    return Restarts("host", random.Random(1), until)  # noqa: S311 - no secret


def test_the_first_is_replaced_at_once_and_those_that_follow_later_and_later() -> None:
    role = restarts()
    pauses = [role.pause_seconds(number * 0.5) for number in range(RESTARTS_MAX)]
    assert pauses[0] == 0
    for number, pause in enumerate(pauses[1:]):
        least = min(BACKOFF_FIRST_SECONDS * 2**number, BACKOFF_MAX_SECONDS)
        assert least <= pause <= least * (1 + JITTER)


def test_pauses_are_not_the_same_each_time() -> None:
    role = restarts()
    role.pause_seconds(0.0)
    other = Restarts("host", random.Random(2))  # noqa: S311 - no secret
    other.pause_seconds(0.0)
    assert role.pause_seconds(1.0) != other.pause_seconds(1.0)


def test_one_more_than_the_limit_within_a_minute_ends_the_run() -> None:
    role = restarts()
    for number in range(RESTARTS_MAX):
        role.pause_seconds(float(number))
    with pytest.raises(HarnessError, match=f"the host died more than {RESTARTS_MAX} times"):
        role.pause_seconds(float(RESTARTS_MAX))


def test_deaths_that_are_longer_ago_do_not_count() -> None:
    role = restarts()
    for number in range(RESTARTS_MAX):
        role.pause_seconds(float(number))
    assert role.pause_seconds(RESTARTS_MAX + WINDOW_SECONDS) == 0
    assert role.total == RESTARTS_MAX + 1


def test_where_faults_are_wanted_there_is_no_pause_and_another_limit() -> None:
    role = restarts(chaos=True)
    assert {role.pause_seconds(0.0) for _ in range(CHAOS_RESTARTS_MAX)} == {0.0}
    with pytest.raises(HarnessError, match=f"more than {CHAOS_RESTARTS_MAX} times"):
        role.pause_seconds(1.0)


def test_when_no_faults_are_wanted_any_more_it_is_as_before() -> None:
    role = restarts(chaos=True)
    for number in range(RESTARTS_MAX):
        assert role.pause_seconds(WINDOW_SECONDS - RESTARTS_MAX + number) == 0
    with pytest.raises(HarnessError, match=f"more than {RESTARTS_MAX} times"):
        role.pause_seconds(WINDOW_SECONDS)


def figures(isolated: int, exhausted: int) -> dict[str, dict[str, int]]:
    oom = {"isolated": isolated, "fragmented": 0, "exhausted": exhausted}
    return {"oom_events": oom, "alloc_failures": dict.fromkeys(st.CAUSES, 9)}


def test_what_was_counted_in_a_tainted_epoch_is_not_charged() -> None:
    found = RecoveryFigures()
    assert found.charged(figures(5, 2)) == figures(5, 2)
    before = [0] * 56
    before[st.OOM_ISOLATED] = 4
    before[st.FAILURES_ISOLATED] = 9
    found.before_epoch = tuple(before)
    found.rebuilt = 1
    charged = found.charged(figures(5, 2))
    assert charged["oom_events"] == {"isolated": 1, "fragmented": 0, "exhausted": 2}
    assert charged["alloc_failures"]["isolated"] == 0
    assert found.epochs == 2


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantile([], 0.99) == 0
    assert quantile([3.0], 0.5) == 3
    assert quantile([float(n) for n in range(100)], 0.99) == 99


def test_lengths_of_weeks_take_little_memory_and_keep_their_quantiles() -> None:
    lengths = Lengths()
    numbers = list(range(10 * LENGTHS_MAX))
    random.Random(3).shuffle(numbers)  # noqa: S311 - no secret
    for number in numbers:
        lengths.add(number / len(numbers))
    found = lengths.fields()
    assert lengths.count == len(numbers)
    assert found["p50"] == pytest.approx(0.5, abs=0.02)
    assert found["p99"] == pytest.approx(0.99, abs=0.005)
    assert found["max"] == (len(numbers) - 1) / len(numbers)
    assert len(lengths._kept) <= LENGTHS_MAX + 1
