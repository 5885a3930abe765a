"""Why a request got nothing: isolated, fragmented, exhausted (docs/model.md, "Causes").

Isolated blocks are made by hand: taken off their list, marked, entered in the scatterlist.
"""

from collections.abc import Iterator

import pytest

from pagesoak.allocator.attribution import EXHAUSTED, FRAGMENTED, ISOLATED, SERVED_NOW
from pagesoak.allocator.gfp import ATOMIC, KERNEL, NORETRY_KERNEL, THP, USER_MOVABLE
from pagesoak.allocator.page_alloc import FAILED, KILLED
from pagesoak.allocator.watermark import ALLOC_MIN_RESERVE, ALLOC_NON_BLOCK, WMARK_MIN
from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    ENTRY_WORDS,
    HIGHATOMIC,
    KIND_ISOLATED,
    PAGE_WORDS,
    PREVIOUS,
    R_ENTRIES,
    R_OFFSET,
    REPORTING_CAPACITY,
    UNMOVABLE,
    Z_ALLOCATED_DIRECT,
    Z_FREE_PAGES,
    Z_ISOLATED,
)
from pagesoak.base.statistics import (
    FAILURES_EXHAUSTED,
    FAILURES_ISOLATED,
    FALLBACKS,
    OOM_EXHAUSTED,
    OOM_FRAGMENTED,
    OOM_ISOLATED,
)
from tests.core_helper import G512, CoreGuest, cause, core_guest, dma32_alone, zone_of_blocks

MOVABLE_ZONE = 3


def isolate(guest: CoreGuest, pfn: int, order: int) -> None:
    """Make pages of `take_all` an isolated block, in the next entry."""
    guest.join(pfn, order)
    zone = guest.zone_of(pfn)
    guest._record(pfn, KIND_ISOLATED | order)
    size = 1 << order
    guest.set_word(Z_ALLOCATED_DIRECT, guest.word(Z_ALLOCATED_DIRECT, zone) - size, zone)
    guest.set_word(Z_ISOLATED, guest.word(Z_ISOLATED, zone) + size, zone)
    report = guest.segment.report
    report[R_OFFSET] -= 1
    entry = R_ENTRIES + report[R_OFFSET] * ENTRY_WORDS
    report[entry + E_PFN] = pfn
    report[entry + E_ORDER] = order
    report[entry + E_PAGES] = size
    guest.segment.pages[pfn * PAGE_WORDS + PREVIOUS] = report[R_OFFSET]


@pytest.fixture
def guest() -> Iterator[CoreGuest]:
    """Eight blocks of order 10, all in use page by page, no watermarks; nothing isolated."""
    with core_guest(zone_of_blocks(8, 1024)) as made:
        made.set_marks(0, 0, 0)
        made.take_all()
        empty_scatterlist(made)
        yield made


def empty_scatterlist(guest: CoreGuest) -> None:
    """Nothing pending; the end marker in the last entry."""
    report = guest.segment.report
    report[R_OFFSET] = REPORTING_CAPACITY
    report[R_ENTRIES + (REPORTING_CAPACITY - 1) * ENTRY_WORDS + E_END] = 1


def why(guest: CoreGuest, order: int, flags: int = WMARK_MIN, highest_zone: int = 3) -> int:
    """The cause now."""
    return cause(guest.base, order, highest_zone, flags)


def test_nothing_free_nothing_isolated_is_exhausted(guest: CoreGuest) -> None:
    assert why(guest, 0) == EXHAUSTED
    assert why(guest, 10) == EXHAUSTED


def test_a_request_that_would_pass_has_no_cause(guest: CoreGuest) -> None:
    guest.give(1024, 1)
    assert why(guest, 0) == SERVED_NOW
    assert why(guest, 1) == SERVED_NOW


@pytest.mark.parametrize(("minimum", "expected"), [(519, ISOLATED), (520, EXHAUSTED)])
def test_order_0_counts_isolated_pages_as_free(
    guest: CoreGuest, minimum: int, expected: int
) -> None:
    """8 free and 512 isolated pages: passes iff 520 > min."""
    guest.give(1024, 3)
    isolate(guest, 2048, 9)
    guest.set_marks(minimum, minimum, minimum)
    assert why(guest, 0) == expected


def test_the_callers_own_rights_count(guest: CoreGuest) -> None:
    """With min 1300 an atomic request may go down to 488 (1300 - 650 - 162)."""
    guest.set_marks(1300, 1300, 1300)
    isolate(guest, 2048, 9)
    assert why(guest, 0) == EXHAUSTED
    assert why(guest, 0, WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK) == ISOLATED


def test_pieces_are_fragmented(guest: CoreGuest) -> None:
    for page in range(1024, 1088, 2):
        guest.give(page)
    assert why(guest, 1) == FRAGMENTED
    assert why(guest, 5) == FRAGMENTED, "32 pages would be enough"
    assert why(guest, 6) == EXHAUSTED, "64 would not"


@pytest.mark.parametrize(("order", "expected"), [(9, ISOLATED), (10, FRAGMENTED)])
def test_an_isolated_block_serves_its_order(guest: CoreGuest, order: int, expected: int) -> None:
    """Its buddy is in use; another isolated block, no neighbour, makes the pages suffice for order
    10.
    """
    isolate(guest, 2048, 9)
    isolate(guest, 4096, 9)
    assert why(guest, order) == expected
    assert why(guest, 3) == ISOLATED


@pytest.mark.parametrize("first", [2048, 2560])
def test_an_isolated_block_and_its_free_buddy(guest: CoreGuest, first: int) -> None:
    isolate(guest, first, 9)
    guest.give(4608 - first, 9)
    assert why(guest, 10) == ISOLATED


def test_two_isolated_buddies(guest: CoreGuest) -> None:
    isolate(guest, 2048, 9)
    isolate(guest, 2560, 9)
    assert why(guest, 10) == ISOLATED


def test_neighbours_that_are_no_buddies(guest: CoreGuest) -> None:
    isolate(guest, 2560, 9)
    isolate(guest, 3072, 9)
    assert why(guest, 10) == FRAGMENTED


def test_a_chain_of_free_buddies(guest: CoreGuest) -> None:
    """Reporting at order 5: the one isolated block is what keeps the rest apart."""
    isolate(guest, 2048, 5)
    for order in range(5, 9):
        guest.give(2048 + (1 << order), order)
    assert why(guest, 9) == ISOLATED
    guest.give(4096, 8)
    guest.give(4608, 8)
    assert why(guest, 10) == FRAGMENTED


def test_many_isolated_blocks_that_would_merge_in_several_steps(guest: CoreGuest) -> None:
    """Sixteen of order 5 make one of order 9; with one missing they do not."""
    for piece in range(15):
        isolate(guest, 2048 + 32 * piece, 5)
    guest.give(4096, 5)
    assert why(guest, 8) == ISOLATED
    assert why(guest, 9) == FRAGMENTED
    isolate(guest, 2048 + 32 * 15, 5)
    assert why(guest, 9) == ISOLATED


def test_a_free_block_that_the_pages_forbid(guest: CoreGuest) -> None:
    """The block is there, but taking it would leave too few, but for the isolated ones."""
    guest.give(1024, 3)
    guest.set_marks(100, 100, 100)
    assert why(guest, 3) == EXHAUSTED
    isolate(guest, 2048, 7)
    assert why(guest, 3) == ISOLATED


def test_blocks_of_the_highatomic_reserve_are_not_usable(guest: CoreGuest) -> None:
    guest.set_type(1024, HIGHATOMIC)
    guest.give(1024, 3)
    for page in range(2048, 2048 + 1040, 2):
        guest.give(page)
    assert why(guest, 2) == FRAGMENTED


def test_a_zone_that_the_request_may_not_use() -> None:
    """The isolated block lies in DMA32, the request may use DMA only; and the other way round."""
    with core_guest(*G512) as guest:
        empty_scatterlist(guest)
        for zone in (0, 1):
            guest.take_all(zone)
        isolate(guest, 12_288, 10)
        assert why(guest, 0, highest_zone=0) == EXHAUSTED
        assert why(guest, 0, highest_zone=3) == ISOLATED


def test_isolated_in_one_zone_wins_over_fragmented_in_the_other() -> None:
    with core_guest(*G512) as guest:
        empty_scatterlist(guest)
        for zone in (0, 1):
            guest.take_all(zone)
            guest.set_marks(0, 0, 0, zone)
        for page in range(1024, 3072, 2):
            guest.give(page)
        assert why(guest, 3) == FRAGMENTED
        isolate(guest, 12_288, 3)
        assert why(guest, 3) == ISOLATED


# -- what a request becomes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gfp", "result", "counter"),
    [
        pytest.param(USER_MOVABLE, KILLED, OOM_ISOLATED, id="user page"),
        pytest.param(KERNEL, KILLED, OOM_ISOLATED, id="GFP_KERNEL"),
        pytest.param(ATOMIC, FAILED, FAILURES_ISOLATED, id="GFP_ATOMIC"),
        pytest.param(NORETRY_KERNEL, FAILED, FALLBACKS, id="NORETRY"),
        pytest.param(THP, FAILED, FALLBACKS, id="huge page"),
    ],
)
def test_outcome_and_cause_of_a_failed_request(gfp: int, result: int, counter: int) -> None:
    """Order 0 with everything isolated or taken: who is killed, who fails, who falls back."""
    with dma32_alone() as guest:
        empty_scatterlist(guest)
        guest.take_all()
        isolate(guest, 12_288, 10)
        assert guest.word(Z_FREE_PAGES) == 0
        assert guest.alloc(gfp=gfp) == result
        assert guest.counter(counter) == 1
        assert sum(guest.counter(number) for number in range(2, 9)) == 1, "counted once"


def test_exhausted_kill() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(678)
        assert guest.alloc() == KILLED
        assert guest.counter(OOM_EXHAUSTED) == 1


def test_fragmented_kill_and_failure_of_a_costly_order() -> None:
    """Orders above 3 never kill."""
    with core_guest(zone_of_blocks(2)) as guest:
        guest.set_marks(0, 0, 0)
        guest.take_all()
        for page in range(0, 512, 2):
            guest.give(page)
        assert guest.alloc(3, UNMOVABLE, KERNEL) == KILLED
        assert guest.counter(OOM_FRAGMENTED) == 1
        assert guest.alloc(4, UNMOVABLE, KERNEL) == FAILED
        assert guest.counter(FAILURES_ISOLATED + FRAGMENTED) == 1


def test_atomic_failure_is_exhausted() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(255)
        assert guest.alloc(gfp=ATOMIC, migratetype=UNMOVABLE) == FAILED
        assert guest.counter(FAILURES_EXHAUSTED) == 1
