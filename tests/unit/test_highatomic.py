"""The HIGHATOMIC reserve: who fills it, who may take from it, when it is given back."""

import pytest

from pagesoak.allocator.buddy import NO_PAGE
from pagesoak.allocator.gfp import ATOMIC, KERNEL, USER_MOVABLE, ZONE_MOVABLE, parse_packed_gfp
from pagesoak.allocator.highatomic import reserve_limit_pages
from pagesoak.allocator.single import watermark_passes
from pagesoak.allocator.watermark import (
    ALLOC_HIGHATOMIC,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    WMARK_MIN,
)
from pagesoak.base.layout import (
    HIGHATOMIC,
    MOVABLE,
    PAGEBLOCK_PAGES,
    RECLAIMABLE,
    UNMOVABLE,
    Z_FREE_PAGES,
    Z_MANAGED,
    Z_RESERVED_HIGHATOMIC,
    open_core,
)
from pagesoak.base.layout_kernel import H_KERNEL, Z_FREE_HIGHATOMIC
from pagesoak.base.native import entry
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone, zone_of_blocks

KERNELS = ("6.1", "6.12")
NOWAIT = parse_packed_gfp("GFP_NOWAIT")
RIGHTS = WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_HIGHATOMIC


@entry
def limit(base: int, zone: int) -> int:
    """`reserve_limit_pages` for a test."""
    return reserve_limit_pages(open_core(base), zone)


def reserved(guest: CoreGuest, zone: int = 0) -> tuple[int, int]:
    """Reserved pages, and those of them that are free."""
    return guest.word(Z_RESERVED_HIGHATOMIC, zone), guest.word(Z_FREE_HIGHATOMIC, zone)


def below_low(guest: CoreGuest) -> None:
    """Between the min and the low mark: requests of order 3 go through the slow path."""
    guest.set_marks(0, 1 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("kernel", "managed", "pages"),
    [
        ("6.1", 118_784, 1187 + 512),
        ("6.1", 3840, 38 + 512),
        ("6.12", 118_784, 1536),
        ("6.12", 51_200, 512),
        ("6.12", 51_199, 0),
        ("6.12", 3840, 0),
        ("6.12", 153_600, 1536),
        ("6.12", 153_700, 2048),
    ],
)
def test_how_much_may_be_reserved(kernel: str, managed: int, pages: int) -> None:
    """6.1: one per cent and a page block; 6.12: one per cent in whole page blocks, or nothing."""
    with core_guest(zone_of_blocks(1), audited=False) as guest:
        guest.set_kernel(kernel)
        guest.set_word(Z_MANAGED, managed)
        assert limit(guest.base, 0) == pages


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_atomic_request_reserves_its_page_block(kernel: str) -> None:
    """In the slow path only. The rest of the page block moves to the reserve's lists, and the next
    request of that kind comes from there.
    """
    with core_guest(G512[1]) as guest:
        guest.set_kernel(kernel)
        guest.take_down_to(4096)
        first = guest.alloc(4, UNMOVABLE, ATOMIC)
        assert reserved(guest) == (0, 0), "the fast path reserves nothing"
        below_low(guest)
        second = guest.alloc(4, UNMOVABLE, ATOMIC)
        assert second == first + 16
        assert guest.type_of(second) == HIGHATOMIC
        assert reserved(guest) == (512, 480)
        third = guest.alloc(4, UNMOVABLE, ATOMIC)
        assert third == first + 32, "out of the reserve"
        assert reserved(guest) == (512, 464)


@pytest.mark.parametrize(
    ("gfp", "order"),
    [
        (KERNEL, 4),
        (USER_MOVABLE, 4),
        (ATOMIC, 0),
        (parse_packed_gfp("GFP_ATOMIC|__GFP_NOMEMALLOC"), 4),
    ],
)
def test_nobody_else_reserves(gfp: int, order: int) -> None:
    with core_guest(G512[1]) as guest:
        guest.take_down_to(4096)
        below_low(guest)
        assert guest.alloc(order, UNMOVABLE, gfp) >= 0
        assert reserved(guest) == (0, 0)


def test_a_block_out_of_a_pageset_is_reserved_too() -> None:
    """Order 3 passes through the pageset: the page block is reserved with what is left of it on
    the buddy lists.
    """
    with core_guest(G512[1]) as guest:
        guest.take_down_to(4096)
        below_low(guest)
        pfn = guest.alloc(3, UNMOVABLE, ATOMIC)
        assert guest.type_of(pfn) == HIGHATOMIC
        in_pageset = 8 * len(guest.pageset(3 * 3 + UNMOVABLE))
        assert in_pageset == 16
        assert reserved(guest) == (512, 512 - 8 - in_pageset)


@pytest.mark.parametrize(("kernel", "pageblocks"), [("6.1", 4), ("6.12", 3)])
def test_the_reserve_ends_at_its_limit(kernel: str, pageblocks: int) -> None:
    """DMA32 of G512: 1699 pages are not reached by three page blocks, 1536 are."""
    with core_guest(G512[1]) as guest:
        guest.set_kernel(kernel)
        below_low(guest)
        for _ in range(6):
            assert guest.alloc(9, UNMOVABLE, ATOMIC) >= 0
        assert guest.word(Z_RESERVED_HIGHATOMIC) == pageblocks * PAGEBLOCK_PAGES


@pytest.mark.parametrize(("kernel", "pages"), [("6.1", 512), ("6.12", 1024)])
def test_a_block_of_two_page_blocks(kernel: str, pages: int) -> None:
    """6.1 reserves the first of them only."""
    with core_guest(G512[1]) as guest:
        guest.set_kernel(kernel)
        below_low(guest)
        pfn = guest.alloc(10, UNMOVABLE, ATOMIC)
        assert guest.word(Z_RESERVED_HIGHATOMIC) == pages
        second = HIGHATOMIC if kernel == "6.12" else UNMOVABLE
        assert (guest.type_of(pfn), guest.type_of(pfn + 512)) == (HIGHATOMIC, second)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("flags", "order", "gets"),
    [
        pytest.param(RIGHTS, 3, True, id="atomic above order 0"),
        pytest.param(WMARK_MIN | ALLOC_OOM, 0, True, id="an OOM victim"),
        pytest.param(WMARK_MIN | ALLOC_NON_BLOCK, 0, True, id="cannot wait"),
        pytest.param(WMARK_MIN | ALLOC_MIN_RESERVE, 0, False, id="only __GFP_HIGH"),
        pytest.param(WMARK_MIN, 0, False, id="anybody"),
    ],
)
def test_who_may_take_from_the_reserve(kernel: str, flags: int, order: int, gets: bool) -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.set_type(0, HIGHATOMIC)
        guest.give(0, 6)
        taken = guest.take(order, UNMOVABLE, alloc_flags=flags)
        assert taken == (0 if gets else NO_PAGE)
        assert guest.word(Z_FREE_HIGHATOMIC) == 64 - (gets << order)


def test_before_6_1_116_a_single_page_never_comes_from_the_reserve() -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.segment.header[H_KERNEL] = 0
        guest.take_all()
        guest.set_type(0, HIGHATOMIC)
        guest.give(0, 6)
        assert guest.take(0, UNMOVABLE, alloc_flags=WMARK_MIN | ALLOC_NON_BLOCK) == NO_PAGE
        assert guest.take(0, UNMOVABLE, alloc_flags=WMARK_MIN | ALLOC_OOM) == 0


def test_the_reserve_is_asked_first_or_last() -> None:
    """An atomic request above order 0 looks there first, one for a single page last."""
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        guest.set_type(1024, HIGHATOMIC)
        guest.give(1024, 6)
        guest.give(0, 6)
        assert guest.take(3, MOVABLE, alloc_flags=RIGHTS) == 1024
        assert guest.take(0, MOVABLE, alloc_flags=WMARK_MIN | ALLOC_NON_BLOCK) == 0


@pytest.mark.parametrize(("kernel", "unusable"), [("6.1", 1024), ("6.12", 24)])
def test_the_watermark_test_leaves_the_reserve_out(kernel: str, unusable: int) -> None:
    """Two reserved page blocks, of which 24 pages are free: 6.1 takes off both blocks whole."""
    with dma32_alone() as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        for pfn in (12_288, 12_800):
            guest.set_type(pfn, HIGHATOMIC)
        guest.give(12_288, 4)
        guest.give(12_800, 3)
        free = guest.word(Z_FREE_PAGES)
        for pages, passes in ((678 + unusable, 0), (679 + unusable, 1)):
            guest.set_word(Z_FREE_PAGES, pages)
            assert watermark_passes(guest.base, 0, 0, ZONE_MOVABLE, WMARK_MIN) == passes
        guest.set_word(Z_FREE_PAGES, 340)
        assert watermark_passes(guest.base, 0, 0, ZONE_MOVABLE, WMARK_MIN | ALLOC_OOM) == 1
        guest.set_word(Z_FREE_PAGES, free)


@pytest.mark.parametrize("kernel", KERNELS)
def test_pages_freed_into_a_reserved_page_block(kernel: str) -> None:
    """They lie with the movable ones in the pageset, and are drained to the reserve."""
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.set_type(0, HIGHATOMIC)
        guest.free(7)
        assert guest.pagesets() == {MOVABLE: [7]}
        assert guest.word(Z_FREE_HIGHATOMIC) == 0
        guest.drain()
        assert guest.free_lists() == {(0, HIGHATOMIC): [7]}
        assert guest.word(Z_FREE_HIGHATOMIC) == 1


def test_reserved_page_blocks_do_not_merge_with_others() -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.take_all()
        for pfn in (0, 1024, 1536):
            guest.set_type(pfn, HIGHATOMIC)
        for pfn in (0, 512, 1024, 1536):
            guest.give(pfn, 9)
        assert guest.free_lists() == {
            (9, HIGHATOMIC): [0],
            (9, MOVABLE): [512],
            (10, HIGHATOMIC): [1024],
        }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("migratetype", [UNMOVABLE, MOVABLE, RECLAIMABLE])
def test_one_page_block_is_given_back_and_the_last_one_kept(kernel: str, migratetype: int) -> None:
    """The one with the smallest free block, to the request's type; without force not the last."""
    with core_guest(zone_of_blocks(2)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        for pfn, order in ((0, 5), (1024, 3)):
            guest.set_type(pfn, HIGHATOMIC)
            guest.give(pfn, order)
        assert guest.unreserve(migratetype, force=False) is True
        assert guest.type_of(1024) == migratetype
        assert guest.free_lists() == {(3, migratetype): [1024], (5, HIGHATOMIC): [0]}
        assert reserved(guest) == (512, 32)
        assert guest.unreserve(migratetype, force=False) is False
        assert guest.unreserve(migratetype) is True
        assert reserved(guest) == (0, 0)
        assert guest.unreserve(migratetype) is False


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_reserve_without_a_free_page_cannot_be_given_back(kernel: str) -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.set_type(0, HIGHATOMIC)
        assert guest.unreserve(MOVABLE) is False
        assert reserved(guest) == (512, 0)


@pytest.mark.parametrize(("kernel", "left"), [("6.1", 512), ("6.12", 0)])
def test_a_free_block_of_two_reserved_page_blocks(kernel: str, left: int) -> None:
    """6.1 moves the whole block over and forgets the second page block, which stays reserved."""
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        for pfn in (0, 512):
            guest.set_type(pfn, HIGHATOMIC)
        guest.give(0, 9)
        guest.give(512, 9)
        assert guest.free_lists() == {(10, HIGHATOMIC): [0]}
        assert guest.unreserve(MOVABLE) is True
        assert guest.free_lists() == {(10, MOVABLE): [0]}
        assert reserved(guest) == (left, 0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_given_back_is_not_merged_with_its_buddy(kernel: str) -> None:
    """A whole free page block of the reserve changes its list, and no more: its free buddy, which
    it was not mixed with before, stays another block. That is the kernel's state, and no breach.
    """
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.set_type(0, HIGHATOMIC)
        guest.give(0, 9)
        guest.give(512, 9)
        assert guest.free_lists() == {(9, HIGHATOMIC): [0], (9, MOVABLE): [512]}
        guest.check()
        assert guest.unreserve(MOVABLE) is True
        assert sorted(guest.free_list(9)) == [0, 512]


def test_the_requests_zones_only_are_asked() -> None:
    with core_guest(*G512) as guest:
        for zone, pfn in ((0, 512), (1, 12_288)):
            guest.take_all(zone)
            guest.set_type(pfn, HIGHATOMIC)
            guest.give(pfn, 2)
        assert guest.unreserve(UNMOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA"))
        assert (reserved(guest, 0), reserved(guest, 1)) == ((0, 0), (512, 4))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_reserve_goes_before_an_oom_kill(kernel: str) -> None:
    """Nothing is left but the reserve: a user's request gets it instead of a kill."""
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.set_marks(0, 0, 0)
        guest.set_type(0, HIGHATOMIC)
        guest.give(0, 6)
        assert guest.alloc() == 0
        assert reserved(guest) == (0, 0)
        assert guest.type_of(0) == MOVABLE


def test_a_request_that_may_not_wait_leaves_the_reserve_to_itself() -> None:
    """GFP_NOWAIT: one page out of the reserve by its rights, the page blocks stay reserved."""
    with core_guest(zone_of_blocks(1)) as guest:
        guest.take_all()
        guest.set_marks(0, 0, 0)
        guest.set_type(0, HIGHATOMIC)
        guest.give(0, 6)
        assert guest.alloc(4, UNMOVABLE, NOWAIT) == 0, "above order 0 it has all rights"
        assert guest.word(Z_RESERVED_HIGHATOMIC) == 512
