"""Pagesets of 6.12: refills that double, frees by the page, `high` between its bounds (PC-1)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pagesoak.allocator.geometry import ZONE_DMA, ZoneGeometry
from pagesoak.allocator.pageset import DECAY_INTERVAL_NS, decay_pagesets
from pagesoak.allocator.populate import WatermarkSettings
from pagesoak.allocator.profile import PROFILES
from pagesoak.allocator.watermark_setup import pageset_batch, pageset_high_max
from pagesoak.base.layout import (
    MOVABLE,
    P_BATCH,
    P_COUNT,
    P_HIGH,
    PAGESET_WORDS,
    Z_FREE_PAGES,
    Z_RECLAIM_ACTIVE,
    open_core,
)
from pagesoak.base.layout_kernel import (
    P_ALLOC_FACTOR,
    P_FREE_COUNT,
    P_HIGH_MAX,
    P_HIGH_MIN,
    Z_BELOW_HIGH,
)
from pagesoak.base.native import entry
from tests.core_helper import G512, CoreGuest, core_guest, zone_of_blocks
from tests.guests import pageset, synthetic_guest

MIB = 1 << 20
BATCH, HIGH_MIN, HIGH_MAX = 31, 847, 14_848
"""DMA32 of G512 with one CPU (PC-1)."""


@entry
def decay(base: int, cpu: int, now: int) -> int:
    """`decay_pagesets` for a test; returns 0."""
    decay_pagesets(open_core(base), cpu, now)
    return 0


def set_word(guest: CoreGuest, word: int, value: int) -> None:
    """Change a word of the first pageset."""
    guest.segment.pagesets[word] = value


@contextmanager
def tuned(zone: ZoneGeometry = G512[1], high_min: int = HIGH_MIN) -> Iterator[CoreGuest]:
    """One zone under 6.12, far above its marks."""
    with core_guest(zone) as guest:
        guest.set_kernel("6.12")
        guest.set_marks(0, 0, 0)
        for word in (P_HIGH, P_HIGH_MIN):
            set_word(guest, word, high_min)
        yield guest


def refills(guest: CoreGuest, times: int, order: int = 0) -> list[int]:
    """Blocks of each of so many refills, with nothing but requests of one order."""
    sizes = []
    for _ in range(times):
        free = guest.word(Z_FREE_PAGES)
        assert guest.alloc(order) >= 0
        taken = (free - guest.word(Z_FREE_PAGES)) >> order
        sizes.append(taken)
        for _ in range(taken - 1):
            assert guest.alloc(order) >= 0
    return sizes


def words(guest: CoreGuest, *names: int) -> tuple[int, ...]:
    """Words of the first pageset."""
    return tuple(guest.pageset_word(name) for name in names)


@pytest.mark.parametrize(
    ("cpus", "high_min", "high_max"),
    [(1, 847, 14_848), (2, 423, 7424), (4, 211, 3712), (8, 124, 1856)],
)
def test_pc_1_bounds_of_high(cpus: int, high_min: int, high_max: int) -> None:
    """PC-1: DMA32 of G512; `high` starts at its least."""
    settings = WatermarkSettings(profile=PROFILES["6.12"])
    with synthetic_guest(512 * MIB, cpus=cpus, settings=settings) as segment:
        for cpu in range(cpus):
            at = pageset(segment, cpu, 1, 0)
            record = segment.pagesets[at : at + PAGESET_WORDS].tolist()
            bounds = [record[word] for word in (P_BATCH, P_HIGH, P_HIGH_MIN, P_HIGH_MAX)]
            assert bounds == [BATCH, high_min, high_min, high_max]


def test_pc_1_the_machine_of_wm_5() -> None:
    """PC-1, observed: DMA32 of 772918 pages, 2 CPUs."""
    assert pageset_high_max(772_918, 2, pageset_batch(772_918)) == 48_307
    assert pageset_batch(772_918) == 63


def test_refills_double_up_to_32_batches() -> None:
    with tuned() as guest:
        assert refills(guest, 7) == [31, 62, 124, 248, 496, 992, 992]
        assert words(guest, P_ALLOC_FACTOR) == (5,)
        assert words(guest, P_HIGH) == (847 + 31 + 62 + 124 + 248 + 496 + 992 + 992,)


def test_high_ends_at_its_most() -> None:
    with tuned() as guest:
        refills(guest, 22)
        assert words(guest, P_HIGH) == (HIGH_MAX,)


def test_below_the_high_mark_high_does_not_grow_and_bounds_the_refill() -> None:
    """Least 847, less a batch: 816 pages at once instead of 992."""
    with tuned() as guest:
        guest.set_marks(0, 0, 1 << 20)
        assert guest.word(Z_BELOW_HIGH) == 0
        assert refills(guest, 7) == [31, 62, 124, 248, 496, 816, 816]
        assert guest.word(Z_BELOW_HIGH) == 1
        assert words(guest, P_HIGH) == (HIGH_MIN,)


@pytest.mark.parametrize(("order", "blocks"), [(1, 15), (2, 7), (3, 3), (9, 2)])
def test_larger_blocks_come_by_the_batch(order: int, blocks: int) -> None:
    with tuned() as guest:
        assert refills(guest, 3, order) == [blocks] * 3
        assert words(guest, P_ALLOC_FACTOR) == (0,)


def test_a_batch_of_one_doubles_too() -> None:
    """Zone DMA of G512: batch 1, high 26."""
    with tuned(zone_of_blocks(4, index=ZONE_DMA), 26) as guest:
        set_word(guest, P_BATCH, 1)
        set_word(guest, P_HIGH_MAX, 480)
        assert refills(guest, 7) == [1, 2, 4, 8, 16, 32, 32]


def test_a_free_halves_the_next_refill() -> None:
    with tuned() as guest:
        refills(guest, 4)
        assert words(guest, P_ALLOC_FACTOR) == (4,)
        pfn = guest.alloc()
        assert words(guest, P_ALLOC_FACTOR) == (5,)
        guest.free(pfn)
        assert words(guest, P_ALLOC_FACTOR) == (2,)


def taken_pages(guest: CoreGuest, pages: int) -> list[int]:
    """Single pages in use that came past the pageset, none of them a buddy of another."""
    held = []
    while len(held) < pages:
        pfn = guest.take(10)
        guest.split(pfn, 10)
        held += range(pfn, pfn + 1024)
    return held[:pages]


def counts_after_drains(guest: CoreGuest, pages: list[int]) -> list[tuple[int, int]]:
    """For each drain: pages freed since the last one, and how many are left."""
    found = []
    since = 0
    for pfn in pages:
        before = guest.pageset_word(P_COUNT)
        guest.free(pfn)
        since += 1
        if guest.pageset_word(P_COUNT) <= before:
            found.append((since, guest.pageset_word(P_COUNT)))
            since = 0
    return found


def test_frees_give_back_what_was_freed_in_a_row() -> None:
    """High 847 with 847 freed in a row: all but a batch goes back, and `high` grows to 878. 847
    more: `high` less a batch again, though 992 were freed in a row, and `high` grows to 1023.
    """
    with tuned() as guest:
        pages = taken_pages(guest, 2 * 847)
        assert counts_after_drains(guest, pages) == [(847, 31), (847, 31)]
        assert words(guest, P_HIGH, P_FREE_COUNT) == (1023, 992)


def test_allocations_make_frees_give_back_less() -> None:
    """Each allocation halves the count of pages freed in a row; at least a batch goes back."""
    with tuned() as guest:
        pages = taken_pages(guest, 1100)
        for pfn in pages[:846]:
            guest.free(pfn)
        assert words(guest, P_COUNT, P_FREE_COUNT) == (846, 846)
        for _ in range(6):
            guest.free(guest.alloc())
        assert words(guest, P_COUNT, P_FREE_COUNT) == (846, 15)
        guest.free(pages[846])
        assert words(guest, P_COUNT) == (847 - 31,)


def test_below_the_high_mark_frees_lower_high_and_drain_at_once() -> None:
    """`high` falls by what was freed in a row, at least a batch, and the pageset by as much."""
    with tuned() as guest:
        refills(guest, 6)
        assert words(guest, P_HIGH) == (2800,)
        pages = taken_pages(guest, 900)
        for pfn in pages[:860]:
            guest.free(pfn)
        assert words(guest, P_COUNT, P_HIGH) == (860, 2800)
        guest.set_word(Z_BELOW_HIGH, 1)
        guest.set_marks(0, 0, 1 << 20)
        guest.free(pages[860])
        assert words(guest, P_HIGH) == (2800 - 861,)
        assert words(guest, P_COUNT) == (31,)
        assert guest.word(Z_BELOW_HIGH) == 1
        guest.set_marks(0, 0, 0)
        set_word(guest, P_HIGH_MIN, 0)
        guest.free(pages[861])
        assert guest.word(Z_BELOW_HIGH) == 0, "a drain found the zone above its mark"


def test_kswapd_at_work_leaves_four_batches() -> None:
    with tuned() as guest:
        refills(guest, 6)
        pages = taken_pages(guest, 200)
        for pfn in pages[:123]:
            guest.free(pfn)
        assert words(guest, P_COUNT, P_HIGH) == (123, 2800)
        guest.set_word(Z_RECLAIM_ACTIVE, 1)
        guest.free(pages[123])
        assert words(guest, P_HIGH) == (2800 - 124,)
        assert words(guest, P_COUNT) == (31,), "124 freed in a row, of which 93 may go"


@pytest.mark.parametrize(("before", "empties"), [(30, False), (31, True)])
def test_larger_blocks_in_a_row_empty_the_pageset(before: int, empties: bool) -> None:
    """The second block of order 1 to 3 in a row, when a batch of pages was freed before it."""
    with tuned() as guest:
        pfn = guest.take(10)
        guest.split(pfn, 10)
        singles = range(pfn, pfn + before - 2)
        for page in singles:
            guest.free(page)
        for page in (pfn + 512, pfn + 520):
            guest.join(page, 1)
        guest.free(pfn + 512, 1)
        assert words(guest, P_COUNT) == (before,)
        guest.free(pfn + 520, 1)
        assert words(guest, P_COUNT) == (0 if empties else before + 2,)
        assert words(guest, P_HIGH) == (HIGH_MIN,)


def test_a_single_page_between_two_larger_blocks_keeps_the_pageset() -> None:
    with tuned() as guest:
        pfn = guest.take(10)
        guest.split(pfn, 10)
        for page in range(pfn, pfn + 40):
            guest.free(page)
        for page in (pfn + 512, pfn + 520):
            guest.join(page, 1)
        guest.free(pfn + 512, 1)
        guest.free(pfn + 50)
        guest.free(pfn + 520, 1)
        assert words(guest, P_COUNT) == (40 + 2 + 1 + 2,)


def test_high_decays_by_an_eighth_each_second() -> None:
    with tuned() as guest:
        refills(guest, 6)
        seen = []
        for second in range(1, 12):
            decay(guest.base, 0, second * DECAY_INTERVAL_NS)
            decay(guest.base, 0, second * DECAY_INTERVAL_NS + 1)
            seen.append(guest.pageset_word(P_HIGH))
        assert seen == [2450, 2144, 1876, 1642, 1437, 1258, 1101, 964, 847, 847, 847]


def test_decay_gives_back_what_is_above() -> None:
    """At most 32 batches at once."""
    with tuned() as guest:
        refills(guest, 8)
        high = guest.pageset_word(P_HIGH)
        assert high == 847 + 961 + 3 * 992
        pages = taken_pages(guest, high)
        for pfn in pages[: high - 1]:
            guest.free(pfn)
        decay(guest.base, 0, DECAY_INTERVAL_NS)
        assert words(guest, P_HIGH, P_COUNT) == (high - high // 8, high - high // 8)


def test_6_1_has_none_of_it() -> None:
    with core_guest(G512[1]) as guest:
        guest.set_marks(0, 0, 1 << 20)
        high = guest.pageset_word(P_HIGH)
        guest.set_marks(0, 0, 1 << 20)
        assert refills(guest, 3) == [31, 31, 31]
        decay(guest.base, 0, DECAY_INTERVAL_NS)
        assert words(guest, P_HIGH) == (high,)
        assert guest.word(Z_BELOW_HIGH) == 0
        assert guest.free_list(10, MOVABLE)
