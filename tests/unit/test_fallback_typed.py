"""Taking from other types as 6.12 does it: a whole page block, or the smallest block alone."""

import pytest

from pagesoak.allocator.buddy import NO_PAGE
from pagesoak.allocator.watermark import ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from pagesoak.base.layout import (
    HIGHATOMIC,
    MOVABLE,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOSTED,
    Z_START_PFN,
)
from pagesoak.base.statistics import STEALS
from tests.core_helper import CoreGuest, core_guest, dma32_alone, zone_of_blocks
from tests.zone_helper import isolate_block

KERNELS = ("6.1", "6.12")


def typed(guest: CoreGuest, pfn: int, order: int, migratetype: int) -> None:
    """A free block in a page block of this type."""
    guest.set_type(pfn, migratetype)
    guest.give(pfn, order)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_block_that_cannot_be_claimed_leaves_its_rest_where_it_was(kernel: str) -> None:
    """Below order 4 a movable request takes the smallest block. 6.1 moves it over with its rest;
    6.12 leaves the rest with the type it came from.
    """
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.set_type(0, UNMOVABLE)
        for pfn, order in ((0, 3), (32, 1), (64, 2)):
            guest.give(pfn, order)
        assert guest.take(0, MOVABLE) == 32
        rest = MOVABLE if kernel == "6.1" else UNMOVABLE
        assert guest.free_lists() == {
            (0, rest): [33],
            (2, UNMOVABLE): [64],
            (3, UNMOVABLE): [0],
        }
        assert guest.type_of(0) == UNMOVABLE


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_unmovable_request_that_cannot_claim(kernel: str) -> None:
    """A few free pages in a movable page block full of user pages. 6.1 moves all of them over and
    leaves the page block's type; 6.12 takes one page of the smallest block and nothing else.
    """
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        for page in range(128, 512):
            guest.split(page, 0, on_lru=True)
        guest.give(0, 4)
        guest.give(32, 1)
        assert guest.take(0, UNMOVABLE) == 32
        rest = UNMOVABLE if kernel == "6.1" else MOVABLE
        assert guest.free_lists() == {(0, rest): [33], (4, rest): [0]}
        assert guest.type_of(0) == MOVABLE
        assert guest.counter(STEALS) == 1


def test_6_12_claims_where_half_is_free_or_alike() -> None:
    """The largest block first; what is free in its page block comes along with the type."""
    with core_guest(zone_of_blocks(2)) as guest:
        guest.set_kernel("6.12")
        guest.take_all()
        guest.give(0, 8)
        guest.give(256, 3)
        guest.give(1024, 4)
        assert guest.take(0, UNMOVABLE) == 256
        assert guest.type_of(0) == UNMOVABLE
        assert guest.type_of(1024) == MOVABLE
        assert guest.free_list(8, UNMOVABLE) == [0]
        assert guest.free_list(4, MOVABLE) == [1024]


def test_6_12_looks_at_smaller_blocks_when_the_largest_cannot_be_claimed() -> None:
    """The largest free block lies in a page block of user pages; a smaller one, in a page block in
    use for the kernel, can be claimed.
    """
    with core_guest(zone_of_blocks(2)) as guest:
        guest.set_kernel("6.12")
        guest.take_all()
        for page in range(64, 512):
            guest.split(page, 0, on_lru=True)
        guest.give(0, 6)
        guest.give(1024, 5)
        assert guest.take(0, UNMOVABLE) == 1024
        assert guest.type_of(1024) == UNMOVABLE
        assert guest.type_of(0) == MOVABLE
        assert guest.free_list(6, MOVABLE) == [0]


def test_6_12_whole_page_blocks_change_type_without_boost() -> None:
    with dma32_alone() as guest:
        guest.set_kernel("6.12")
        assert guest.take(0, UNMOVABLE) == 12_288
        assert guest.type_of(12_288) == guest.type_of(12_800) == UNMOVABLE
        assert guest.word(Z_BOOST) == 0
        assert guest.free_list(9, UNMOVABLE) == [12_800]


@pytest.mark.parametrize(("on_lru", "boost"), [(0, 512), (384, 1024)])
def test_6_12_boosts_for_each_attempt_to_claim(on_lru: int, boost: int) -> None:
    """One attempt that succeeds; or two that do not, of the two orders on the lists."""
    with dma32_alone() as guest:
        guest.set_kernel("6.12")
        guest.take_all()
        for page in range(12_800 - on_lru, 12_800):
            guest.split(page, 0, on_lru=True)
        guest.give(12_288, 6)
        guest.give(12_288 + 64, 5)
        guest.take(0, UNMOVABLE, alloc_flags=ALLOC_KSWAPD)
        assert guest.word(Z_BOOST) == boost
        assert guest.word(Z_BOOSTED) == 1


def test_6_12_a_refill_does_not_try_again_what_could_not_be_claimed() -> None:
    """A pageset's refill of 31 pages from a page block that cannot be claimed boosts for the first
    page only: two attempts, of the two orders there are.
    """
    with dma32_alone() as guest:
        guest.set_kernel("6.12")
        guest.set_word(Z_BOOST_FACTOR, 150_000)
        guest.take_all()
        for page in range(12_288, 12_800):
            guest.split(page, 0, on_lru=True)
        for pfn in range(12_288, 12_288 + 64, 2):
            guest.give(pfn, 0)
        guest.give(12_288 + 64, 5)
        guest.set_marks(0, 0, 1016)
        pfn = guest.alloc(0, UNMOVABLE)
        assert pfn >= 0
        assert guest.word(Z_BOOST) == 1024
        assert guest.type_of(12_288) == MOVABLE
        assert len(guest.pageset(UNMOVABLE)) == 30
        assert guest.drain() == 0
        assert not [key for key in guest.free_lists() if key[1] == UNMOVABLE], (
            "drained pages go back to their page block's type"
        )


def test_6_12_a_page_block_that_reaches_out_of_the_zone_is_never_claimed() -> None:
    """6.1 deals with the part inside, from the block itself on; 6.12 leaves it alone."""
    for kernel, claimed in (("6.1", True), ("6.12", False)):
        zone = zone_of_blocks(2)
        with core_guest(zone, audited=False) as guest:
            guest.set_kernel(kernel)
            guest.take_all()
            guest.give(256, 8)
            guest.set_word(Z_START_PFN, 1)
            assert guest.take(0, UNMOVABLE) == 256
            assert (guest.type_of(0) == UNMOVABLE) == claimed


@pytest.mark.parametrize("kernel", KERNELS)
def test_nofragment_takes_whole_page_blocks_only(kernel: str) -> None:
    with core_guest(zone_of_blocks(2)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        guest.give(0, 8)
        assert guest.take(0, UNMOVABLE, alloc_flags=ALLOC_NOFRAGMENT) == NO_PAGE
        guest.give(1024, 9)
        assert guest.take(0, UNMOVABLE, alloc_flags=ALLOC_NOFRAGMENT) == 1024
        assert guest.take(0, UNMOVABLE) == 1025
        assert guest.free_list(8, MOVABLE) == [0]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("migratetype", [UNMOVABLE, MOVABLE, RECLAIMABLE])
def test_highatomic_is_never_a_fallback(kernel: str, migratetype: int) -> None:
    with core_guest(zone_of_blocks(1)) as guest:
        guest.set_kernel(kernel)
        guest.take_all()
        typed(guest, 0, 9, HIGHATOMIC)
        assert guest.take(0, migratetype) == NO_PAGE


def test_6_12_merging_carries_the_type_along() -> None:
    """Two page blocks of different types merge to one block of order 10: the buddy's page block
    takes the type of the one that was freed. 6.1 leaves it, and the list is all that counts.
    """
    for kernel, of_buddy in (("6.1", UNMOVABLE), ("6.12", RECLAIMABLE)):
        with core_guest(zone_of_blocks(1)) as guest:
            guest.set_kernel(kernel)
            guest.take_all()
            typed(guest, 0, 9, UNMOVABLE)
            typed(guest, 512, 9, RECLAIMABLE)
            assert guest.free_lists() == {(10, RECLAIMABLE): [0]}
            assert guest.type_of(0) == of_buddy


def test_6_12_pages_are_drained_to_their_page_blocks_type() -> None:
    """The page block has changed its type while a page lay in the pageset."""
    for kernel, goes_to in (("6.1", MOVABLE), ("6.12", UNMOVABLE)):
        with core_guest(zone_of_blocks(1), audited=kernel == "6.12") as guest:
            guest.set_kernel(kernel)
            guest.take_all()
            guest.free(5)
            assert guest.pageset(MOVABLE) == [5]
            guest.set_type(5, UNMOVABLE)
            assert guest.drain() == 0
            assert guest.free_lists() == {(0, goes_to): [5]}


def test_6_12_isolating_half_a_page_block_takes_the_other_half_along() -> None:
    """`page_reporting_order` 8: the page block becomes MOVABLE, and the lists of the rest too."""
    for kernel, rest in (("6.1", UNMOVABLE), ("6.12", MOVABLE)):
        with core_guest(zone_of_blocks(2), audited=False) as guest:
            guest.set_kernel(kernel)
            guest.take_all()
            typed(guest, 0, 8, UNMOVABLE)
            guest.give(256, 7)
            assert isolate_block(guest.base, 0, 0, 8) == 1
            assert guest.type_of(0) == MOVABLE
            assert guest.free_lists() == {(7, rest): [256]}
