"""The page cache: LRU lists, dirty pages, and what reclaim takes from them."""

from collections.abc import Callable

import pytest

from pagesoak.allocator.audit import CHECKS, audit
from pagesoak.allocator.files import fill_files
from pagesoak.allocator.geometry import ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE
from pagesoak.allocator.gfp import ATOMIC, USER_MOVABLE, parse_packed_gfp
from pagesoak.allocator.guest import AGAIN, DONE, OUT_OF_MEMORY, WAITS
from pagesoak.allocator.kswapd import FAILURES_MAX
from pagesoak.allocator.page_alloc import FAILED, KILLED, WAITING
from pagesoak.allocator.shrink import DIRECT, KSWAPD, PRIORITY_FIRST
from pagesoak.base.layout import (
    KIND_ALLOCATED,
    KIND_SHIFT,
    NEXT,
    OWNER_FIRST_LOAD,
    P_COUNT,
    PAGE_WORDS,
    PREVIOUS,
    UNMOVABLE,
    Z_FREE_PAGES,
    Z_RECLAIM_ACTIVE,
)
from pagesoak.base.layout_reclaim import (
    CACHE_FIRST_SLOT,
    DIRTY,
    H_NODES,
    L_FILE_PAGES,
    L_MLOCKED_PAGES,
    L_OOM_SCORE_ADJ,
    L_SEQUENTIAL,
    L_TMPFS_PAGES,
    L_WRITE_PERMILLE,
    LRU_ACTIVE,
    LRU_INACTIVE,
    N_FAILURES,
    Q_DIRTY,
    Q_PAGES,
    Q_WRITEBACK,
    RECLAIM,
    REFERENCED,
    S_NEXT,
    S_PFN,
    S_PREVIOUS,
    S_QUEUE_NEXT,
    S_STATE,
    WRITEBACK,
    Z_ACTIVE_FILE,
    Z_INACTIVE_FILE,
    Z_UNEVICTABLE,
)
from pagesoak.base.statistics import (
    CACHE_HITS,
    CACHE_MISSES,
    KSWAPD_RUNS,
    OOM_EXHAUSTED,
    PAGES_ACTIVATED,
    PAGES_DEACTIVATED,
    PAGES_SCANNED_DIRECT,
    PAGES_STOLEN_DIRECT,
    PAGES_STOLEN_KSWAPD,
    PAGES_WRITTEN,
    STALLS,
)
from tests.core_helper import G512, kswapd, zone_of_blocks
from tests.files_guest import (
    ACCESS,
    DIRTY_IT,
    END_WRITEBACK,
    FOREVER_NS,
    HELD_UP,
    RUN_FLUSHER,
    WAKE_FLUSHER,
    FilesGuest,
    files_guest,
    reclaim_directly,
    shrink,
)

ZONE = zone_of_blocks(8)
"""32 MiB of DMA32."""
HOUR_NS = 3_600_000_000_000


def reclaim(guest: FilesGuest, gfp: int = USER_MOVABLE) -> int:
    """Pages that a request's direct reclaim frees."""
    return reclaim_directly(guest.base, 0, gfp, 0)


# -- accesses -------------------------------------------------------------------------------------


def test_a_page_comes_to_the_head_of_the_inactive_list() -> None:
    with files_guest(ZONE) as guest:
        guest.read(5, 3, 9)
        assert guest.lru("inactive") == [9, 3, 5]
        assert guest.flags(3) == REFERENCED
        assert guest.word(Z_INACTIVE_FILE) == 3
        kind, order, _, _ = guest.state(guest.pfn(3))
        assert (kind << KIND_SHIFT, order) == (KIND_ALLOCATED, 0)
        assert guest.counter(CACHE_MISSES) == 3


def test_the_second_access_makes_a_page_active() -> None:
    with files_guest(ZONE) as guest:
        guest.read(1, 2, 3, 2)
        assert guest.lru("inactive") == [3, 1]
        assert guest.lru("active") == [2]
        assert guest.flags(2) == 0, "it is not referenced again yet"
        guest.read(2, 2)
        assert guest.flags(2) == REFERENCED
        assert (guest.word(Z_INACTIVE_FILE), guest.word(Z_ACTIVE_FILE)) == (2, 1)
        assert guest.counter(CACHE_HITS) == 3


def test_what_is_locked_or_of_tmpfs_is_where_no_scan_looks() -> None:
    with files_guest(ZONE, pages=100) as guest:
        guest.set_load(L_FILE_PAGES, 80)
        guest.set_load(L_MLOCKED_PAGES, 10)
        guest.set_load(L_TMPFS_PAGES, 20)
        assert fill_files(guest.base, 0, 0, FOREVER_NS) == DONE
        assert guest.lru("unevictable") == list(range(9, -1, -1))
        assert [page for page in range(100) if guest.pfn(page) >= 0] == [
            *range(10),
            *range(80, 100),
        ]
        guest.read(4, 4, 90, 90)
        assert guest.lru("active") == guest.lru("inactive") == []
        assert guest.word(Z_UNEVICTABLE) == 10
        assert reclaim(guest) == 0


def test_locked_pages_that_do_not_fit() -> None:
    with files_guest(ZONE, pages=9000) as guest:
        guest.set_load(L_MLOCKED_PAGES, 9000)
        reason = AGAIN
        while reason == AGAIN:
            reason = fill_files(guest.base, 0, 0, FOREVER_NS)
        assert reason == OUT_OF_MEMORY


def test_a_sequential_load_reads_page_after_page() -> None:
    with files_guest(ZONE, pages=10) as guest:
        guest.set_load(L_SEQUENTIAL, 1)
        assert guest.run(7) == DONE
        assert guest.lru("inactive") == [6, 5, 4, 3, 2, 1, 0]
        assert guest.run(5) == DONE
        assert guest.lru("inactive") == [9, 8, 7, 6, 5, 4, 3, 2]
        assert guest.lru("active") == [1, 0]


# -- dirty pages ----------------------------------------------------------------------------------


def test_a_dirty_page_is_written_once_the_flusher_is_woken() -> None:
    with files_guest(ZONE) as guest:
        guest.written_after(HOUR_NS)
        guest.write(1, 2, 1)
        assert guest.segment.cache[Q_DIRTY + Q_PAGES] == 2
        guest.step(WAKE_FLUSHER)
        assert guest.segment.cache[Q_DIRTY + Q_PAGES] == 0
        assert guest.segment.cache[Q_WRITEBACK + Q_PAGES] == 2
        assert guest.flags(2) & (DIRTY | WRITEBACK) == WRITEBACK
        guest.step(END_WRITEBACK)
        assert guest.flags(2) & WRITEBACK, "the disk has not written it yet"
        guest.check()


def test_a_written_page_is_clean() -> None:
    with files_guest(ZONE) as guest:
        guest.written_after(0)
        guest.write(1, 2)
        guest.step(WAKE_FLUSHER)
        guest.step(END_WRITEBACK)
        assert guest.flags(1) == guest.flags(2) == REFERENCED
        assert guest.counter(PAGES_WRITTEN) == 2


def test_what_is_written_to_while_it_is_written_is_dirty_again() -> None:
    with files_guest(ZONE) as guest:
        guest.written_after(0)
        guest.write(1)
        guest.step(WAKE_FLUSHER)
        guest.step(DIRTY_IT, 1)
        guest.check()
        guest.step(END_WRITEBACK)
        assert guest.flags(1) & (DIRTY | WRITEBACK) == DIRTY
        assert guest.segment.cache[Q_DIRTY + Q_PAGES] == 1


def test_the_flusher_begins_at_a_tenth_and_holds_the_writer_at_a_fifth() -> None:
    """8192 pages, reserves nothing: 819 and 1638."""
    with files_guest(ZONE, pages=2000) as guest:
        guest.set_marks(0, 0, 0)
        guest.written_after(HOUR_NS)
        guest.write(*range(819))
        guest.drain()
        guest.step(RUN_FLUSHER)
        assert guest.segment.cache[Q_WRITEBACK + Q_PAGES] == 0
        guest.write(819)
        guest.drain()
        guest.step(RUN_FLUSHER)
        assert guest.segment.cache[Q_WRITEBACK + Q_PAGES] == 820
        guest.write(*range(820, 1638))
        guest.drain()
        assert guest.step(HELD_UP) == 0
        guest.write(1638)
        guest.drain()
        assert guest.step(HELD_UP) == 1
        assert guest.step(ACCESS, 5, writes=True) == WAITING
        assert guest.step(ACCESS, 5) == 0, "reading goes on"
        guest.set_load(L_WRITE_PERMILLE, 1000)
        assert guest.run(10) == WAITS


# -- scanning -------------------------------------------------------------------------------------


def test_clean_pages_go_from_the_end_used_or_not() -> None:
    with files_guest(ZONE) as guest:
        guest.read(*range(40))
        pfns = [guest.pfn(page) for page in range(40)]
        assert shrink(guest.base, 0, ZONE_MOVABLE, 32, 0, KSWAPD) == (32, 32, 0, 0)
        assert guest.lru("inactive") == list(range(39, 31, -1))
        assert [guest.pfn(page) for page in range(32)] == [-1] * 32
        assert all(guest.state(pfn)[0] in (1, 2) for pfn in pfns[:32]), "free, or in the pageset"
        assert guest.counter(PAGES_STOLEN_KSWAPD) == 32


def test_the_share_that_is_scanned_goes_by_the_priority() -> None:
    with files_guest(ZONE, pages=4200) as guest:
        guest.set_marks(0, 0, 0)
        guest.read(*range(4200))
        assert shrink(guest.base, 12, ZONE_MOVABLE, 32, 0, KSWAPD)[0] == 1
        assert shrink(guest.base, 10, ZONE_MOVABLE, 32, 0, KSWAPD)[0] == 4
        assert shrink(guest.base, 8, ZONE_MOVABLE, 32, 0, KSWAPD)[0] == 16
        assert shrink(guest.base, 5, ZONE_MOVABLE, 32, 0, KSWAPD)[0] == 32
        assert shrink(guest.base, 5, ZONE_MOVABLE, 1000, 0, KSWAPD)[0] == 4147 >> 5
        guest.drain()


def test_direct_reclaim_scans_its_whole_first_share() -> None:
    """At the first priority it does not stop at 32 pages; later it does."""
    with files_guest(*G512, pages=60_000) as guest:
        guest.read(*range(60_000))
        assert shrink(guest.base, PRIORITY_FIRST, ZONE_MOVABLE, 5, 0, DIRECT)[0] == 14
        assert shrink(guest.base, PRIORITY_FIRST, ZONE_MOVABLE, 5, 0, KSWAPD)[0] == 14
        assert shrink(guest.base, 5, ZONE_MOVABLE, 5, 0, DIRECT)[0] == 32


def test_dirty_pages_become_active_and_wake_the_flusher() -> None:
    with files_guest(ZONE) as guest:
        guest.written_after(0)
        guest.write(*range(8))
        assert shrink(guest.base, 0, ZONE_MOVABLE, 32, 0, DIRECT) == (0, 8, 0, 0)
        assert guest.lru("active") == list(range(7, -1, -1))
        assert guest.flags(0) & (DIRTY | WRITEBACK | RECLAIM) == WRITEBACK | RECLAIM
        guest.step(END_WRITEBACK)
        assert guest.lru("active") == []
        assert guest.lru("inactive")[::-1] == list(range(7, -1, -1)), "the last written is last"
        assert guest.flags(0) == REFERENCED
        assert guest.counter(PAGES_ACTIVATED) == 8
        assert reclaim(guest) == 8


def test_a_clean_page_among_dirty_ones_leaves_the_flusher_asleep() -> None:
    with files_guest(ZONE) as guest:
        guest.written_after(HOUR_NS)
        guest.write(0, 1)
        guest.read(2)
        assert shrink(guest.base, 0, ZONE_MOVABLE, 32, 0, DIRECT)[0] == 1
        assert guest.segment.cache[Q_WRITEBACK + Q_PAGES] == 0
        assert guest.flags(0) & (DIRTY | RECLAIM) == DIRTY | RECLAIM


def test_active_pages_come_down_when_there_are_more_of_them() -> None:
    with files_guest(ZONE) as guest:
        guest.read(*range(20))
        guest.read(*range(12))
        assert (len(guest.lru("inactive")), len(guest.lru("active"))) == (8, 12)
        assert shrink(guest.base, 2, ZONE_MOVABLE, 100, 0, KSWAPD) == (2, 2, 3, 0)
        assert guest.lru("active") == list(range(11, 2, -1))
        assert guest.lru("inactive")[:3] == [2, 1, 0]
        assert guest.counter(PAGES_DEACTIVATED) == 3


def test_active_pages_are_left_alone_while_they_are_fewer_unless_forced() -> None:
    with files_guest(ZONE) as guest:
        guest.read(*range(20))
        guest.read(*range(8))
        assert shrink(guest.base, 2, ZONE_MOVABLE, 100, 0, KSWAPD) == (3, 3, 0, 1)
        assert shrink(guest.base, 2, ZONE_MOVABLE, 100, 1, KSWAPD)[2] == 2


def test_only_pages_of_zones_the_request_may_use_are_taken() -> None:
    """With DMA and DMA32: what a request for DMA wants is in DMA only."""
    with files_guest(*G512, pages=300) as guest:
        guest.read(*range(100))
        guest.take_down_to(847, 1)
        guest.drain()
        guest.read(*range(100, 200))
        in_dma = [page for page in range(200) if guest.pfn(page) < 4096]
        rest = [page for page in range(200) if page not in in_dma]
        assert len(in_dma) > 90
        assert len(rest) >= 100
        assert shrink(guest.base, 0, ZONE_DMA, 1000, 0, KSWAPD)[0] == len(in_dma)
        assert [page for page in range(200) if guest.pfn(page) >= 0] == rest
        assert shrink(guest.base, 0, ZONE_DMA32, 1000, 0, KSWAPD)[0] == len(rest)


# -- direct reclaim and kswapd over a cache -------------------------------------------------------


def test_direct_reclaim_goes_down_the_priorities_until_it_has_32_pages() -> None:
    """Of 200 pages priority 7 takes 1, 6 takes 3, then 6, 11 and 22: 43."""
    with files_guest(ZONE) as guest:
        guest.read(*range(200))
        assert reclaim(guest) == 43
        assert guest.counter(STALLS) == 1
        assert guest.counter(PAGES_STOLEN_DIRECT) == 43
        assert guest.counter(PAGES_SCANNED_DIRECT) == 43
        assert len(guest.lru("inactive")) == 157


def test_a_fruitless_sweep_is_made_again_with_force() -> None:
    """All inactive pages dirty, some active ones clean, and fewer: the second sweep gets them."""
    with files_guest(ZONE) as guest:
        guest.written_after(HOUR_NS)
        guest.read(*range(10))
        guest.read(*range(10))
        guest.write(*range(10, 60))
        assert len(guest.lru("active")) == 10
        freed = reclaim(guest)
        assert freed == 10
        assert guest.counter(STALLS) in (1, 2)
        assert guest.segment.header[H_NODES + N_FAILURES] == 0


def test_a_request_lives_on_the_page_cache() -> None:
    """Below min with a full cache: no kill, reclaim serves request after request."""
    with files_guest(ZONE, pages=6000) as guest:
        guest.set_marks(300, 375, 450)
        guest.read(*range(6000))
        guest.take_down_to(300)
        for _ in range(1000):
            assert guest.alloc() >= 0
        assert guest.counter(OOM_EXHAUSTED) == 0
        assert guest.counter(PAGES_STOLEN_DIRECT) + guest.counter(PAGES_STOLEN_KSWAPD) > 900
        kswapd(guest.base)


def test_and_kills_when_the_cache_is_used_up() -> None:
    """All 600 pages, but for what a refill takes too much."""
    with files_guest(ZONE, pages=600) as guest:
        guest.set_load(L_OOM_SCORE_ADJ, -1000)
        guest.set_marks(300, 375, 450)
        guest.read(*range(600))
        guest.drain()
        guest.take_down_to(300)
        taken = 0
        while (pfn := guest.alloc()) >= 0:
            taken += 1
        assert pfn == KILLED
        assert 560 < taken <= 640
        assert guest.lru("inactive") == guest.lru("active") == []


def test_after_progress_the_pagesets_are_emptied_for_what_is_missing() -> None:
    """CPU 1 holds freed pages; reclaim freed some into CPU 0's; only both together pass min."""
    with files_guest(ZONE, pages=100, cpus=2) as guest:
        guest.set_marks(300, 375, 450)
        guest.read(*range(10))
        held = [guest.alloc(cpu=1) for _ in range(60)]
        guest.take_down_to(280)
        for pfn in held:
            guest.free(pfn, cpu=1)
        assert guest.pageset_word(P_COUNT, cpu=1) > 20
        assert guest.alloc() >= 0
        assert guest.pageset_word(P_COUNT, cpu=1) == 0
        assert guest.counter(OOM_EXHAUSTED) == 0


def test_who_may_not_reclaim_does_not() -> None:
    with files_guest(ZONE, pages=600) as guest:
        guest.set_marks(300, 375, 450)
        guest.read(*range(600))
        guest.drain()
        guest.take_down_to(100)
        assert guest.alloc(gfp=ATOMIC, migratetype=UNMOVABLE) == FAILED
        assert guest.counter(PAGES_SCANNED_DIRECT) == guest.counter(STALLS) == 0
        no_retry = parse_packed_gfp("GFP_KERNEL|__GFP_NORETRY")
        assert guest.alloc(gfp=no_retry, migratetype=UNMOVABLE) in (FAILED, *range(8192))
        assert guest.counter(STALLS) == 1


def test_kswapd_reclaims_until_the_node_is_balanced() -> None:
    with files_guest(ZONE, pages=6000) as guest:
        guest.set_marks(300, 375, 450)
        guest.read(*range(6000))
        guest.drain()
        guest.take_down_to(360)
        assert guest.alloc() >= 0
        kswapd(guest.base)
        assert guest.word(Z_FREE_PAGES) > 450
        assert guest.word(Z_FREE_PAGES) < 450 + 450, "and no further"
        assert guest.counter(KSWAPD_RUNS) == 1
        assert guest.segment.header[H_NODES + N_FAILURES] == 0
        assert guest.word(Z_RECLAIM_ACTIVE) == 0
        assert guest.counter(STALLS) == 0


def test_direct_reclaim_that_frees_gives_kswapd_new_hope() -> None:
    with files_guest(ZONE) as guest:
        guest.segment.header[H_NODES + N_FAILURES] = FAILURES_MAX
        guest.read(*range(64))
        assert reclaim(guest) == 44, "1, 1, 3, 7, 13, 19"
        assert guest.segment.header[H_NODES + N_FAILURES] == 0


# -- the audit ------------------------------------------------------------------------------------

Crime = Callable[[FilesGuest], None]


def _set(page: int, word: int, value: int) -> Crime:
    def crime(guest: FilesGuest) -> None:
        guest.set_slot(page, word, value)

    return crime


def _two_slots(guest: FilesGuest) -> None:
    guest.set_slot(50, S_PFN, guest.pfn(1))


def _freed_behind_its_back(guest: FilesGuest) -> None:
    guest.free(guest.pfn(1))


def _other_owner(guest: FilesGuest) -> None:
    guest.segment.pages[guest.pfn(1) * PAGE_WORDS + PREVIOUS] = OWNER_FIRST_LOAD - 1


def _off_its_list(guest: FilesGuest) -> None:
    before, after = guest.slot(1, S_PREVIOUS), guest.slot(1, S_NEXT)
    guest.set_slot(before - CACHE_FIRST_SLOT, S_NEXT, after)
    guest.set_slot(after - CACHE_FIRST_SLOT, S_PREVIOUS, before)


def _counted(word: int) -> Crime:
    def crime(guest: FilesGuest) -> None:
        guest.set_word(word, guest.word(word) + 1)

    return crime


def _queue_count(guest: FilesGuest) -> None:
    guest.segment.cache[Q_DIRTY + Q_PAGES] += 1


def _not_queued(guest: FilesGuest) -> None:
    guest.set_slot(1, S_STATE, guest.slot(1, S_STATE) | DIRTY)


@pytest.mark.parametrize(
    ("check", "crime"),
    [
        pytest.param("page-cache", _two_slots, id="a page in two slots"),
        pytest.param("page-cache", _freed_behind_its_back, id="a page that is free"),
        pytest.param("page-cache", _other_owner, id="a page of nobody's load"),
        pytest.param("page-cache", _set(1, S_PFN, 1 << 30), id="no page at all"),
        pytest.param("page-cache", _set(60, S_STATE, LRU_INACTIVE), id="flags without a page"),
        pytest.param("page-cache", _queue_count, id="miscounted queue"),
        pytest.param("page-cache", _not_queued, id="dirty and not queued"),
        pytest.param("page-cache", _set(3, S_QUEUE_NEXT, CACHE_FIRST_SLOT), id="endless queue"),
        pytest.param("lru-lists", _off_its_list, id="on no list"),
        pytest.param("lru-lists", _set(1, S_STATE, LRU_ACTIVE), id="on the wrong list"),
        pytest.param("lru-lists", _set(1, S_NEXT, CACHE_FIRST_SLOT + 1), id="a circle"),
        pytest.param("lru-lists", _set(1, S_NEXT, 1), id="into the lock"),
        pytest.param("lru-lists", _set(1, S_PREVIOUS, CACHE_FIRST_SLOT + 60), id="no way back"),
        pytest.param("lru-lists", _counted(Z_INACTIVE_FILE), id="miscounted inactive"),
        pytest.param("lru-lists", _counted(Z_ACTIVE_FILE), id="miscounted active"),
        pytest.param("lru-lists", _counted(Z_UNEVICTABLE), id="miscounted unevictable"),
    ],
)
def test_each_crime_is_seen_by_its_check(check: str, crime: Crime) -> None:
    with files_guest(ZONE, audited=False) as guest:
        guest.read(*range(8))
        guest.read(6, 7)
        guest.write(2, 3)
        guest.check()
        crime(guest)
        assert check in CHECKS
        assert check in {breach.check for breach in audit(guest.segment).breaches}


def test_a_page_record_says_who_has_it_as_for_any_other() -> None:
    with files_guest(ZONE) as guest:
        guest.read(0)
        place = guest.pfn(0) * PAGE_WORDS
        assert guest.segment.pages[place + PREVIOUS] == OWNER_FIRST_LOAD
        assert guest.segment.pages[place + NEXT] == 1, "the CPU's first sequence number"
