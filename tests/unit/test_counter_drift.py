"""NR_FREE_PAGES as one CPU tells of it: in steps, and what that does to the watermark tests."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from pagesoak.allocator.buddy import count_free_pages, counted_free_pages
from pagesoak.allocator.gfp import ZONE_MOVABLE
from pagesoak.allocator.single import watermark_passes
from pagesoak.allocator.watermark import WMARK_MIN
from pagesoak.base.layout import Z_COUNTER_DRIFT, Z_COUNTER_STEP, Z_FREE_PAGES, open_core
from pagesoak.base.native import entry
from tests.core_helper import G512, CoreGuest, core_guest

DMA32 = 1
MIN_PAGES = 678


@entry
def change(base: int, zone: int, pages: int) -> int:
    """`count_free_pages` for a test; returns the counter as others read it."""
    core = open_core(base)
    count_free_pages(core, zone, pages)
    return counted_free_pages(core, zone)


@pytest.fixture
def guest() -> Iterator[CoreGuest]:
    """The reference guest with a number of free pages in DMA32 that is set by hand."""
    with core_guest(*G512, audited=False) as made:
        made.set_word(Z_FREE_PAGES, 1000, DMA32)
        yield made


def test_without_a_step_the_counter_is_exact(guest: CoreGuest) -> None:
    assert [change(guest.base, DMA32, pages) for pages in (1, -3, 1024)] == [1001, 998, 2022]
    assert guest.word(Z_COUNTER_DRIFT, DMA32) == 0


def test_a_change_is_told_once_it_is_larger_than_the_step(guest: CoreGuest) -> None:
    guest.set_word(Z_COUNTER_STEP, 2, DMA32)
    told = [change(guest.base, DMA32, 1) for _ in range(7)]
    assert told == [1000, 1000, 1003, 1003, 1003, 1006, 1006]
    assert guest.word(Z_FREE_PAGES, DMA32) == 1007
    assert change(guest.base, DMA32, -31) == 976
    assert all(later >= earlier for earlier, later in pairwise(told))


def test_the_watermark_test_reads_what_was_told(guest: CoreGuest) -> None:
    guest.set_word(Z_FREE_PAGES, MIN_PAGES + 1, DMA32)
    guest.set_word(Z_COUNTER_STEP, 6, DMA32)
    assert watermark_passes(guest.base, DMA32, 0, ZONE_MOVABLE, WMARK_MIN) == 1
    assert change(guest.base, DMA32, -1) == MIN_PAGES + 1
    assert watermark_passes(guest.base, DMA32, 0, ZONE_MOVABLE, WMARK_MIN) == 1
    assert change(guest.base, DMA32, -6) == MIN_PAGES - 6
    assert watermark_passes(guest.base, DMA32, 0, ZONE_MOVABLE, WMARK_MIN) == 0
