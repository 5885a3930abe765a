"""Requests and frees as a whole: zones, rights, the slow path, locks that cannot be had
(docs/model.md, section 6).
"""

import os
from collections.abc import Iterator

import pytest

from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.gfp import (
    ATOMIC,
    KERNEL,
    NORETRY_KERNEL,
    THP,
    USER_MOVABLE,
    parse_packed_gfp,
)
from pagesoak.allocator.kswapd import FAILURES_MAX
from pagesoak.allocator.page_alloc import ABORTED, FAILED, KILLED
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    H_STOP,
    MOVABLE,
    NEXT,
    ON_LRU,
    OWNER_FIRST_LOAD,
    P_COUNT,
    P_HIGH,
    PAGE_WORDS,
    PREVIOUS,
    RECLAIMABLE,
    STATE,
    UNMOVABLE,
    Z_ALLOCATED_DIRECT,
    Z_BOOST,
    Z_BOOSTED,
    Z_DEAD,
    Z_FREE_PAGES,
)
from pagesoak.base.lock import HELD, give_zone_lock, take_zone_lock
from pagesoak.base.statistics import ALLOC_REQUESTS, FREES, KSWAPD_RUNS, OOM_ISOLATED, STALLS
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone, kswapd, zone_of_blocks

DMA, DMA32 = 0, 1
OUTSIDER = 3
"""A worker that is no guest CPU."""


@pytest.fixture
def small() -> Iterator[CoreGuest]:
    """Eight blocks of order 10, all free, no watermarks."""
    with core_guest(zone_of_blocks(8)) as guest:
        guest.set_marks(0, 0, 0)
        yield guest


# -- who has it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 3, 4, 9, 10])
def test_a_taken_block_says_whose_it_is(small: CoreGuest, order: int) -> None:
    pfn = small.alloc(order)
    assert small.state(pfn) == (3, order, MOVABLE, False)
    assert small.segment.pages[pfn * PAGE_WORDS + PREVIOUS] == OWNER_FIRST_LOAD
    first = small.segment.pages[pfn * PAGE_WORDS + NEXT]
    other = small.alloc(order)
    assert small.segment.pages[other * PAGE_WORDS + NEXT] == first + 1
    assert small.counter(ALLOC_REQUESTS) == 2


@pytest.mark.parametrize(
    ("migratetype", "gfp", "on_lru"),
    [(MOVABLE, USER_MOVABLE, True), (UNMOVABLE, KERNEL, False), (RECLAIMABLE, KERNEL, False)],
)
def test_only_movable_user_pages_are_on_the_lru(
    small: CoreGuest, migratetype: int, gfp: int, on_lru: bool
) -> None:
    pfn = small.alloc(0, migratetype, gfp)
    assert bool(small.segment.pages[pfn * PAGE_WORDS + STATE] & ON_LRU) == on_lru
    assert small.state(pfn)[2] == migratetype


@pytest.mark.parametrize("order", range(11))
def test_everything_given_back_is_everything(small: CoreGuest, order: int) -> None:
    taken = [small.alloc(order) for _ in range(4)]
    for pfn in taken:
        assert small.free(pfn, order) == 0
    assert small.counter(FREES) == 4
    small.drain()
    assert small.word(Z_FREE_PAGES) == 8192
    assert sorted(small.free_list(10)) == list(range(0, 8192, 1024))


# -- zones ----------------------------------------------------------------------------------------


def test_the_highest_zone_serves_first() -> None:
    with core_guest(*G512) as guest:
        assert guest.alloc() >= 4096
        assert guest.word(Z_FREE_PAGES, DMA) == 3840


@pytest.mark.parametrize(
    ("flags", "zone"), [("GFP_KERNEL|__GFP_DMA", DMA), ("GFP_KERNEL|__GFP_DMA32", DMA32)]
)
def test_a_zone_modifier_bounds_the_zones(flags: str, zone: int) -> None:
    with core_guest(*G512) as guest:
        pfn = guest.alloc(0, UNMOVABLE, parse_packed_gfp(flags))
        assert guest.zone_of(pfn) == zone


def test_a_request_for_dma_never_goes_up() -> None:
    """And it kills nobody: the OOM killer is not for the lower zones."""
    with core_guest(*G512) as guest:
        guest.take_all(DMA)
        assert guest.alloc(0, UNMOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA")) == FAILED
        assert guest.alloc(0, UNMOVABLE, KERNEL) >= 4096


def test_a_free_goes_to_its_own_zone() -> None:
    with core_guest(*G512) as guest:
        pfn = guest.alloc(4, UNMOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA"))
        assert guest.word(Z_ALLOCATED_DIRECT, DMA) == 16
        guest.free(pfn, 4)
        assert guest.word(Z_FREE_PAGES, DMA) == 3840


# -- the slow path --------------------------------------------------------------------------------


def test_the_fast_path_wakes_nobody() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(848)
        assert guest.alloc() >= 0
        assert guest.segment.header[H_KSWAPD_WAKE] == 0


def test_the_slow_path_wakes_kswapd_for_those_who_may() -> None:
    no_kswapd = parse_packed_gfp("GFP_HIGHUSER_MOVABLE") & ~parse_packed_gfp("GFP_NOWAIT")
    with dma32_alone() as guest:
        guest.take_down_to(847)
        assert guest.alloc(gfp=no_kswapd | 3 << 16) >= 0
        assert guest.segment.header[H_KSWAPD_WAKE] == 0
        guest.drain()
        assert guest.alloc(gfp=USER_MOVABLE) >= 0
        assert guest.segment.header[H_KSWAPD_WAKE] == 1
        assert guest.counter(STALLS) == 0


@pytest.mark.parametrize(
    ("gfp", "result", "stalls"),
    [
        pytest.param(USER_MOVABLE, KILLED, 1, id="user page"),
        pytest.param(NORETRY_KERNEL, FAILED, 1, id="NORETRY tries reclaim once"),
        pytest.param(ATOMIC, FAILED, 0, id="atomic may not wait"),
        pytest.param(THP, FAILED, 0, id="a huge page does not wait"),
    ],
)
def test_who_stalls(gfp: int, result: int, stalls: int) -> None:
    with dma32_alone() as guest:
        guest.take_all()
        assert guest.alloc(gfp=gfp) == result
        assert guest.counter(STALLS) == stalls


@pytest.mark.parametrize(
    ("gfp", "served"),
    [
        pytest.param(USER_MOVABLE, True, id="one who would kill"),
        pytest.param(NORETRY_KERNEL, False, id="NORETRY"),
        pytest.param(parse_packed_gfp("GFP_KERNEL|__GFP_RETRY_MAYFAIL"), True, id="RETRY_MAYFAIL"),
    ],
)
def test_the_last_chance_uses_the_high_mark(gfp: int, served: bool) -> None:
    """Marks that no kernel sets, with high the lowest: only the last chance passes."""
    with dma32_alone() as guest:
        guest.set_marks(5000, 5000, 100)
        guest.take_down_to(1000)
        assert (guest.alloc(gfp=gfp) >= 0) == served
        assert guest.counter(OOM_ISOLATED) == 0


def test_the_boost_raises_all_marks_until_kswapd_has_run() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(1000)
        guest.set_word(Z_BOOST, 512)
        guest.set_word(Z_BOOSTED, 1)
        assert guest.alloc() == KILLED
        kswapd(guest.base)
        assert (guest.word(Z_BOOST), guest.word(Z_BOOSTED)) == (0, 0)
        assert guest.segment.header[H_KSWAPD_WAKE] == 0
        assert guest.counter(KSWAPD_RUNS) == FAILURES_MAX, "1000 are less than high: it tried on"
        assert guest.alloc() >= 0


def test_kswapd_sleeps_until_it_is_woken() -> None:
    with dma32_alone() as guest:
        guest.set_word(Z_BOOST, 512)
        kswapd(guest.base)
        assert guest.word(Z_BOOST) == 512
        assert guest.counter(KSWAPD_RUNS) == 0


# -- locks that cannot be had -----------------------------------------------------------------


def requests_are_aborted(guest: CoreGuest, taken: int) -> None:
    """Neither a request nor a free changes anything; `taken` is a block of order 4."""
    before = state_digest(guest.segment)
    for order in (0, 3, 4, 9, 10):
        assert guest.alloc(order) == ABORTED
    assert guest.free(taken, 4) == ABORTED
    assert guest.state(taken)[:2] == (3, 4)
    assert state_digest(guest.segment) == before
    assert guest.pageset_word(P_COUNT) == 0


def test_a_dead_zone_is_left_alone(small: CoreGuest) -> None:
    taken = small.alloc(4)
    small.set_word(Z_DEAD, 1)
    requests_are_aborted(small, taken)
    assert small.drain() == 0


def test_a_holder_that_died(small: CoreGuest) -> None:
    """The first to come finds out, marks the zone and lets go; the state stays as the dead left
    it.
    """
    taken = small.alloc(4)
    child = os.fork()
    if child == 0:
        os._exit(0 if take_zone_lock(small.base, 0, OUTSIDER) == HELD else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert small.word(Z_DEAD) == 0
    requests_are_aborted(small, taken)
    assert small.word(Z_DEAD) == 1


def test_a_waiter_ends_when_the_run_is_stopped(small: CoreGuest) -> None:
    taken = small.alloc(4)
    assert take_zone_lock(small.base, 0, OUTSIDER) == HELD
    small.segment.header[H_STOP] = 1
    requests_are_aborted(small, taken)
    assert give_zone_lock(small.base, 0, OUTSIDER) == 0
    small.segment.header[H_STOP] = 0
    assert small.free(taken, 4) == 0


def test_a_free_that_cannot_drain_stays_in_the_pageset(small: CoreGuest) -> None:
    """Nothing is lost: the page is where the next drain finds it."""
    pages = [small.alloc() for _ in range(3)]
    small.set_pageset_word(P_HIGH, 1)
    small.set_word(Z_DEAD, 1)
    count = small.pageset_word(P_COUNT)
    assert small.free(pages[0]) == 0
    assert small.pageset_word(P_COUNT) == count + 1
