"""The slow path: how many rounds, who fails and who kills, by the rule of each kernel."""

import time

import pytest

from pagesoak.allocator.gfp import ATOMIC, KERNEL, NORETRY_KERNEL, THP, parse_packed_gfp
from pagesoak.allocator.kswapd import FAILURES_MAX
from pagesoak.allocator.page_alloc import ABORTED, FAILED, KILLED, WAITING
from pagesoak.allocator.profile import profile_of
from pagesoak.base.layout import H_STOP, UNMOVABLE, Z_BOOST, Z_FREE_PAGES, Z_RECLAIM_ACTIVE
from pagesoak.base.layout_kernel import H_KERNEL
from pagesoak.base.layout_reclaim import H_NODES, N_FAILURES
from pagesoak.base.statistics import (
    ALLOC_REQUESTS,
    FAILURES_EXHAUSTED,
    FALLBACKS,
    OOM_EXHAUSTED,
    STALL,
    STALLS,
    publish_statistics,
    read_statistics,
)
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone

EAGER_THP = parse_packed_gfp("GFP_TRANSHUGE|__GFP_NORETRY")
NOFS = parse_packed_gfp("GFP_NOFS")
NOFAIL = parse_packed_gfp("GFP_KERNEL|__GFP_NOFAIL|__GFP_THISNODE")
RETRY_MAYFAIL = parse_packed_gfp("GFP_KERNEL|__GFP_RETRY_MAYFAIL")
THISNODE = parse_packed_gfp("GFP_KERNEL|__GFP_THISNODE")
DMA32 = parse_packed_gfp("GFP_KERNEL|__GFP_DMA32")
MIN = 678
"""Of DMA32 of G512."""


def stalls(guest: CoreGuest) -> int:
    """Entries into direct reclaim."""
    return guest.counter(STALLS)


def stalled(guest: CoreGuest) -> tuple[int, int]:
    """How many requests had to reclaim by themselves, and how long they took together, in ns."""
    publish_statistics(guest.base, 0)
    lengths = read_statistics(guest.segment, 0).histograms[STALL]
    return lengths.observations, lengths.total


# -- the retry rule -------------------------------------------------------------------------------


def test_seventeen_stalls_where_free_pages_count_twice() -> None:
    """Below min, but twice what is free would suffice: 16 retries and one (FACTS)."""
    with dma32_alone() as guest:
        guest.take_down_to(MIN)
        assert guest.alloc() == KILLED
        assert stalls(guest) == 17
        assert guest.counter(OOM_EXHAUSTED) == 1


@pytest.mark.parametrize(
    ("release", "rounds"),
    [("6.1.123", 1), ("6.1.124", 17), ("6.1.192", 17), ("6.12.43", 17)],
)
def test_stalls_of_each_release(release: str, rounds: int) -> None:
    """Free pages count twice since 6.1.124."""
    with dma32_alone() as guest:
        guest.segment.header[H_KERNEL] = profile_of(release).rules
        guest.take_down_to(MIN)
        assert guest.alloc() == KILLED
        assert stalls(guest) == rounds


@pytest.mark.parametrize(("free_pages", "rounds"), [(MIN // 2, 1), (MIN // 2 + 1, 17)])
def test_rounds_end_at_once_when_even_twice_the_free_pages_do_not_suffice(
    free_pages: int, rounds: int
) -> None:
    with dma32_alone() as guest:
        guest.take_down_to(free_pages)
        assert guest.alloc() == KILLED
        assert stalls(guest) == rounds


def test_the_boost_counts_in_the_retry_as_everywhere() -> None:
    """A boost of 512 asks for 1190: 595 doubled are not more, 596 doubled are. kswapd gave up,
    else the first would wait for it, and it would take the boost back.
    """
    for free_pages, rounds in ((595, 1), (596, 17)):
        with dma32_alone() as guest:
            guest.take_down_to(free_pages)
            guest.set_word(Z_BOOST, 512)
            guest.segment.header[H_NODES + N_FAILURES] = FAILURES_MAX
            assert guest.alloc() == KILLED
            assert stalls(guest) == rounds


def test_any_zone_is_reason_enough_for_another_round() -> None:
    """DMA keeps 464 of its pages from a user (min 21): 485 or less are never enough, doubled they
    are from 243 on.
    """
    for dma_pages, rounds in ((242, 1), (243, 17)):
        with core_guest(*G512) as guest:
            guest.take_down_to(300, 1)
            guest.take_down_to(dma_pages, 0)
            assert guest.alloc() == KILLED
            assert stalls(guest) == rounds


def test_a_zone_that_the_request_may_not_use_is_no_reason() -> None:
    with core_guest(*G512) as guest:
        guest.take_down_to(300, 1)
        guest.take_down_to(0, 0)
        assert guest.alloc(migratetype=UNMOVABLE, gfp=parse_packed_gfp("GFP_KERNEL|GFP_DMA")) < 0
        assert stalls(guest) == 1


def test_no_round_for_an_order_of_which_there_is_no_block() -> None:
    """Pages enough, but single ones: the retry asks for a block too."""
    with core_guest(G512[1]) as guest:
        guest.set_marks(0, 0, 0)
        guest.take_all()
        for page in range(12_288, 12_800, 2):
            guest.give(page)
        assert guest.alloc(3, UNMOVABLE, KERNEL) == KILLED
        assert stalls(guest) == 1


# -- who fails, who kills, who waits --------------------------------------------------------------


@pytest.mark.parametrize(
    ("gfp", "order", "result", "rounds"),
    [
        pytest.param(parse_packed_gfp("GFP_NOWAIT"), 0, FAILED, 0, id="NOWAIT"),
        pytest.param(THP, 9, FAILED, 0, id="huge page"),
        pytest.param(NORETRY_KERNEL, 0, FAILED, 1, id="NORETRY"),
        pytest.param(KERNEL, 4, FAILED, 1, id="costly"),
        pytest.param(RETRY_MAYFAIL, 4, FAILED, 1, id="costly RETRY_MAYFAIL, no block"),
        pytest.param(RETRY_MAYFAIL, 0, FAILED, 17, id="RETRY_MAYFAIL"),
        pytest.param(THISNODE, 0, FAILED, 17, id="THISNODE"),
        pytest.param(DMA32, 0, FAILED, 17, id="for a low zone"),
        pytest.param(NOFS, 0, WAITING, 17, id="without __GFP_FS"),
        pytest.param(NOFAIL, 0, WAITING, 17, id="NOFAIL that may not kill"),
        pytest.param(KERNEL, 0, KILLED, 17, id="ordinary"),
        pytest.param(KERNEL, 3, KILLED, 1, id="ordinary, order 3, no block"),
    ],
)
def test_what_becomes_of_a_request_that_nothing_can_serve(
    gfp: int, order: int, result: int, rounds: int
) -> None:
    """400 single pages free, min 678."""
    with dma32_alone() as guest:
        guest.take_all()
        for page in range(12_288, 13_088, 2):
            guest.give(page)
        assert guest.word(Z_FREE_PAGES) == 400
        assert guest.alloc(order, UNMOVABLE, gfp) == result
        assert stalls(guest) == rounds


def test_a_request_that_waits_is_counted_when_it_is_served() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(500)
        assert guest.alloc(migratetype=UNMOVABLE, gfp=NOFS) == WAITING
        assert guest.counter(ALLOC_REQUESTS) == 0
        assert guest.counter(FAILURES_EXHAUSTED) == guest.counter(FALLBACKS) == 0


def test_the_rounds_end_when_the_run_does() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(MIN)
        guest.segment.header[H_STOP] = 1
        assert guest.alloc() == ABORTED
        assert stalls(guest) == 0
        assert guest.word(Z_RECLAIM_ACTIVE) == 0


# -- how long -------------------------------------------------------------------------------------


def test_a_stall_is_counted_once_with_its_length_however_many_rounds_it_makes() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(MIN)
        assert stalled(guest) == (0, 0)
        began_ns = time.monotonic_ns()
        assert guest.alloc() == KILLED
        longest_ns = time.monotonic_ns() - began_ns
        assert stalls(guest) == 17
        count, total_ns = stalled(guest)
        assert count == 1
        assert 0 < total_ns < longest_ns
        assert guest.alloc(migratetype=UNMOVABLE, gfp=NOFS) == WAITING
        assert stalled(guest)[0] == 2


def test_a_request_that_may_not_reclaim_does_not_stall() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(0)
        assert guest.alloc(gfp=ATOMIC) == FAILED
        assert stalled(guest) == (0, 0)


def test_an_optional_request_that_gives_up_before_reclaim_has_stalled_too() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(MIN)
        assert guest.alloc(order=9, gfp=EAGER_THP) == FAILED
        assert stalls(guest) == 0
        assert stalled(guest)[0] == 1
