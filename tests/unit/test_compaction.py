"""Compaction: which zones are worth it, what moves where, how long a request goes on."""

from collections.abc import Iterator

import pytest

from pagesoak.allocator.compact_zone import (
    COMPLETE,
    CONTINUE,
    DEFERRED,
    PARTIAL,
    SKIPPED,
    SLICE_PAGEBLOCKS,
    SUCCESS,
    compaction_defer_reset,
    compaction_deferred,
    compaction_suitable,
    defer_compaction,
    fragmentation_index,
)
from pagesoak.allocator.compaction import (
    NO_RETRY,
    PRIORITY_ASYNC,
    PRIORITY_SYNC_FULL,
    PRIORITY_SYNC_LIGHT,
    should_compact_retry,
    try_to_compact_pages,
)
from pagesoak.allocator.gfp import KERNEL, NORETRY_KERNEL, ZONE_MOVABLE, parse_packed_gfp
from pagesoak.allocator.kcompactd import run_kcompactd, wakeup_kcompactd
from pagesoak.allocator.watermark import WMARK_MIN
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    L_CAPACITY,
    L_CPU,
    L_CURSOR,
    L_EVENT_COUNT,
    L_HELD,
    L_HELD_PAGES,
    L_OWNER,
    LOAD_WORDS,
    MOVABLE,
    NEXT,
    OWNER_FIRST_LOAD,
    PAGE_WORDS,
    UNMOVABLE,
    Z_FREE_PAGES,
    open_core,
)
from pagesoak.base.layout_kernel import (
    H_COMPACTION,
    Z_COMPACT_FREE,
    Z_COMPACT_MIGRATE,
    Z_KCOMPACTD_ORDER,
)
from pagesoak.base.layout_reclaim import L_BUSY
from pagesoak.base.native import entry
from pagesoak.base.recorder import read_events
from tests.core_helper import CoreGuest, core_guest, zone_of_blocks

USER = OWNER_FIRST_LOAD
BLOCKS = 8
"""Of order 10 in the zone: 16 page blocks."""
FIRST_TARGET = 12 * 512
LAST = 15 * 512
END = 16 * 512
FREE = 5 * 256
TABLE = 4096


@entry
def suitable(base: int, order: int, alloc_flags: int) -> int:
    """`compaction_suitable` of zone 0 for a test."""
    return compaction_suitable(open_core(base), 0, order, ZONE_MOVABLE, alloc_flags)


@entry
def index_of(base: int, order: int) -> int:
    """`fragmentation_index` of zone 0 for a test."""
    return fragmentation_index(open_core(base), 0, order)


@entry
def compact(base: int, order: int, migratetype: int, gfp: int, priority: int) -> int:
    """`try_to_compact_pages` for a test."""
    return try_to_compact_pages(open_core(base), 0, order, migratetype, gfp, WMARK_MIN, priority)


@entry
def defer(base: int, order: int) -> int:
    """`defer_compaction` for a test; returns 0."""
    defer_compaction(open_core(base), 0, order)
    return 0


@entry
def deferred(base: int, order: int) -> int:
    """`compaction_deferred` for a test."""
    return int(compaction_deferred(open_core(base), 0, order))


@entry
def served(base: int, order: int) -> int:
    """`compaction_defer_reset` after a success, for a test; returns 0."""
    compaction_defer_reset(open_core(base), 0, order, True)
    return 0


@entry
def retry(
    base: int, order: int, gfp: int, result: int, priority: int, retries: int
) -> tuple[int, int]:
    """`should_compact_retry` for a test."""
    return should_compact_retry(open_core(base), 0, order, gfp, result, priority, retries)


@entry
def wake(base: int, order: int) -> int:
    """`wakeup_kcompactd` of node 0 for a test; returns 0."""
    wakeup_kcompactd(open_core(base), 0, order, ZONE_MOVABLE)
    return 0


@entry
def background(base: int) -> int:
    """`run_kcompactd` for a test; returns 0."""
    run_kcompactd(open_core(base), 0)
    return 0


class Fragmented:
    """A zone in use in which every other page of each page block is free, held by load 0."""

    def __init__(self, guest: CoreGuest) -> None:
        self.guest = guest
        guest.segment.header[H_COMPACTION] = 1
        guest.set_marks(0, 0, 0)
        guest.take_all()
        self.set_load(L_OWNER, USER)
        self.held: list[int] = []

    def set_load(self, word: int, value: int, load: int = 0) -> None:
        """Change a word of a load's record."""
        self.guest.segment.loads[load * LOAD_WORDS + word] = value

    def hold(self, *pfns: int) -> None:
        """Pages in use become the load's user pages."""
        for pfn in pfns:
            self.guest.split(pfn, 0, on_lru=True)
            self.guest.segment.tables[len(self.held)] = pfn
            self.held.append(pfn)
        self.set_load(L_HELD, len(self.held))
        self.set_load(L_HELD_PAGES, len(self.held))

    def table(self) -> list[int]:
        """The load's pages, as its table says."""
        return self.guest.segment.tables[: len(self.held)].tolist()

    def halve(self, start: int, order: int = 9) -> None:
        """Every other page of a block is the load's, the rest free."""
        self.hold(*range(start, start + (1 << order), 2))
        for pfn in range(start + 1, start + (1 << order), 2):
            self.guest.give(pfn)

    def events(self) -> list[dict[str, int]]:
        """What was compacted."""
        found, _ = read_events(self.guest.segment, 0)
        return [event.fields for event in found if event.name == "compacted"]


@pytest.fixture
def zone() -> Iterator[Fragmented]:
    """A zone whose first page block and last four are half free, the others in use: 1280 pages."""
    with core_guest(zone_of_blocks(BLOCKS), table_words=TABLE, loads=2) as guest:
        fragmented = Fragmented(guest)
        fragmented.halve(0)
        for pfn in range(FIRST_TARGET, END, 2):
            guest.give(pfn)
        assert guest.word(Z_FREE_PAGES) == FREE
        yield fragmented


def test_pages_move_to_the_end_and_what_they_leave_merges(zone: Fragmented) -> None:
    """256 pages of the first page block fill the last one: a whole page block becomes free. Each
    table entry names its page's new place, with the same owner and sequence number.
    """
    guest = zone.guest
    for number, pfn in enumerate(zone.held):
        guest.segment.pages[pfn * PAGE_WORDS + NEXT] = 1000 + number
    free = guest.word(Z_FREE_PAGES)
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == SUCCESS
    assert guest.drain() == 0
    assert guest.word(Z_FREE_PAGES) == free
    assert guest.free_list(9) == [0]
    moved = zone.table()
    assert sorted(moved) == list(range(LAST, END, 2))
    for number, pfn in enumerate(moved):
        record = guest.segment.pages[pfn * PAGE_WORDS : (pfn + 1) * PAGE_WORDS].tolist()
        assert record[:2] == [1000 + number, USER]
        assert guest.state(pfn) == (3, 0, MOVABLE, False)
    assert zone.events() == [
        {"zone": 0, "order": 9, "pageblocks": 1, "moved_pages": 256, "result": SUCCESS}
    ]


def test_the_highest_of_the_pages_taken_is_used_first(zone: Fragmented) -> None:
    """Whole free blocks are taken, ascending, until there are 32 pages; then their pages from the
    last down.
    """
    compact(zone.guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT)
    expected = [*range(LAST + 62, LAST - 2, -2), LAST + 126]
    assert zone.table()[:33] == expected


def test_compaction_stops_at_the_min_mark(zone: Fragmented) -> None:
    """The free scanner takes a page only while more than min and that page are free: 96 pages
    here. What they leave is enough for a block of order 3.
    """
    guest = zone.guest
    guest.set_marks(FREE - 1 - 96, FREE, FREE)
    assert compact(guest.base, 3, UNMOVABLE, KERNEL, PRIORITY_SYNC_FULL) == SUCCESS
    assert [event["moved_pages"] for event in zone.events()] == [96]


def test_pages_of_nobody_known_stay(zone: Fragmented) -> None:
    """Kernel pages, and user pages that are in no table."""
    guest = zone.guest
    zone.set_load(L_HELD, 0)
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == COMPLETE
    assert zone.table() == zone.held
    assert guest.word(Z_COMPACT_FREE) == 0


def test_a_table_that_somebody_works_on_is_left_alone(zone: Fragmented) -> None:
    zone.set_load(L_BUSY, 7)
    assert compact(zone.guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == COMPLETE
    assert zone.table() == zone.held
    assert zone.guest.segment.loads[L_BUSY] == 7


def test_the_cpus_own_burst_moves_its_own_pages(zone: Fragmented) -> None:
    zone.set_load(L_BUSY, 1)
    assert compact(zone.guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == SUCCESS
    assert zone.guest.segment.loads[L_BUSY] == 1


@pytest.mark.parametrize(("cpu", "result"), [(0, SUCCESS), (1, COMPLETE)])
def test_a_replays_pages_move_on_its_own_cpu_only(zone: Fragmented, cpu: int, result: int) -> None:
    """Its table is looked through from the first to the last, whatever its cursor counts."""
    zone.set_load(L_EVENT_COUNT, 10)
    zone.set_load(L_CURSOR, 9)
    zone.set_load(L_HELD, 0)
    zone.set_load(L_CAPACITY, TABLE)
    zone.set_load(L_CPU, cpu)
    assert compact(zone.guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == result


def test_pages_given_back_already_are_not_looked_for(zone: Fragmented) -> None:
    """A burst that gives back: the entries below its cursor are stale."""
    guest = zone.guest
    pfn = zone.held[0]
    guest.free(pfn)
    guest.drain()
    zone.set_load(L_CURSOR, 1)
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == SUCCESS
    assert zone.table()[0] == pfn


def test_async_looks_at_page_blocks_of_its_own_type_only(zone: Fragmented) -> None:
    guest = zone.guest
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_ASYNC) == COMPLETE
    assert zone.table() == zone.held
    assert compact(guest.base, 9, MOVABLE, KERNEL, PRIORITY_ASYNC) == SUCCESS


def test_page_blocks_that_are_not_movable_take_no_pages(zone: Fragmented) -> None:
    guest = zone.guest
    for pfn in range(FIRST_TARGET, END, 512):
        guest.set_type(pfn, UNMOVABLE)
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == COMPLETE
    assert zone.table() == zone.held


def test_unused_pages_of_the_free_scanner_go_back(zone: Fragmented) -> None:
    """One page to move: of the 32 that were taken, 31 are free again."""
    guest = zone.guest
    for pfn in zone.held[1:]:
        guest.split(pfn, 0)
    free = guest.word(Z_FREE_PAGES)
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == COMPLETE
    assert zone.table()[0] >= LAST
    guest.drain()
    assert guest.word(Z_FREE_PAGES) == free


def test_it_goes_on_where_it_stopped(zone: Fragmented) -> None:
    """A block is there behind the first page block; the next run begins at the second, so that the
    scanners meet without having begun at the ends.
    """
    guest = zone.guest
    assert compact(guest.base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == SUCCESS
    assert guest.word(Z_COMPACT_MIGRATE) == 512
    guest.drain()
    guest.take(9)
    zone.halve(6 * 512, 4)
    zone.halve(5 * 512, 4)
    assert compact(guest.base, 8, UNMOVABLE, KERNEL, PRIORITY_SYNC_FULL) == PARTIAL
    assert guest.word(Z_COMPACT_FREE) == 0, "from the ends next time"


@pytest.mark.parametrize(
    ("order", "free_pages", "expected"),
    [
        (3, 16, SKIPPED),
        (3, 17, CONTINUE),
        (9, 1024 + 100, SKIPPED),
        (9, 1024 + 101, CONTINUE),
    ],
)
def test_twice_the_block_must_be_free(order: int, free_pages: int, expected: int) -> None:
    """Above min, above low for costly orders; all in single pages."""
    with core_guest(zone_of_blocks(BLOCKS), audited=False) as guest:
        guest.take_all()
        for pfn in range(0, 2 * free_pages, 2):
            guest.give(pfn)
        guest.set_marks(0, 100, 200)
        assert suitable(guest.base, order, WMARK_MIN) == expected


def test_a_zone_that_would_serve_needs_none() -> None:
    with core_guest(zone_of_blocks(BLOCKS)) as guest:
        guest.set_marks(0, 0, 0)
        assert suitable(guest.base, 9, WMARK_MIN) == SUCCESS


@pytest.mark.parametrize(
    ("order", "singles", "index"),
    [
        pytest.param(9, 0, 0, id="nothing is free"),
        pytest.param(9, 100, 1000 - (1000 + 100 * 1000 // 512) // 100, id="few pages in pieces"),
        pytest.param(9, 1, 1000 - 1001, id="one page"),
        pytest.param(0, 100, -1000, id="would not fail"),
    ],
)
def test_fragmentation_index(order: int, singles: int, index: int) -> None:
    with core_guest(zone_of_blocks(BLOCKS)) as guest:
        guest.take_all()
        for pfn in range(0, 2 * singles, 2):
            guest.give(pfn)
        assert index_of(guest.base, order) == index


def test_a_costly_order_needs_pieces_rather_than_lack() -> None:
    """Memory in blocks of order 8: the index for order 9 is low, so memory is what lacks."""
    with core_guest(zone_of_blocks(BLOCKS)) as guest:
        guest.take_all()
        guest.set_marks(0, 0, 0)
        for pfn in range(0, END, 512):
            guest.give(pfn, 8)
        assert index_of(guest.base, 9) == 1000 - (1000 + 4096 * 1000 // 512) // 16 == 438
        assert suitable(guest.base, 9, WMARK_MIN) == SKIPPED


def test_failures_put_a_zone_off_for_twice_as_long_each_time() -> None:
    with core_guest(zone_of_blocks(BLOCKS)) as guest:
        assert deferred(guest.base, 9) == 0
        waits = []
        for _ in range(8):
            defer(guest.base, 9)
            waits.append(0)
            while deferred(guest.base, 9):
                waits[-1] += 1
        assert waits == [1, 3, 7, 15, 31, 63, 63, 63]
        defer(guest.base, 9)
        served(guest.base, 9)
        assert deferred(guest.base, 9) == 0


def test_smaller_orders_than_what_failed_are_not_put_off() -> None:
    with core_guest(zone_of_blocks(BLOCKS)) as guest:
        served(guest.base, 5)
        defer(guest.base, 9)
        assert deferred(guest.base, 5) == 0
        assert deferred(guest.base, 6) == 1


def test_a_zone_put_off_is_passed_over_but_at_the_highest_priority(zone: Fragmented) -> None:
    base = zone.guest.base
    defer(base, 9)
    defer(base, 9)
    assert compact(base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_LIGHT) == DEFERRED
    assert zone.table() == zone.held
    assert compact(base, 9, UNMOVABLE, KERNEL, PRIORITY_SYNC_FULL) == SUCCESS


@pytest.mark.parametrize(
    ("order", "result", "priority", "retries", "expected"),
    [
        pytest.param(0, SUCCESS, 1, 0, (1, NO_RETRY), id="order 0 never"),
        pytest.param(2, SUCCESS, 1, 0, (1, 1), id="progress"),
        pytest.param(2, SUCCESS, 1, 15, (1, 16), id="the sixteenth"),
        pytest.param(2, SUCCESS, 1, 16, (0, 0), id="harder then"),
        pytest.param(2, SUCCESS, 0, 16, (0, NO_RETRY), id="enough"),
        pytest.param(4, SUCCESS, 2, 4, (1, 0), id="costly: a quarter"),
        pytest.param(4, SUCCESS, 1, 4, (1, NO_RETRY), id="costly: never the hardest"),
        pytest.param(2, COMPLETE, 1, 0, (0, 0), id="failed: harder"),
        pytest.param(2, DEFERRED, 0, 0, (0, NO_RETRY), id="put off at the hardest"),
        pytest.param(2, SKIPPED, 1, 3, (1, 3), id="skipped, but with reclaim it could"),
    ],
)
def test_how_long_a_request_goes_on(
    order: int, result: int, priority: int, retries: int, expected: tuple[int, int]
) -> None:
    with core_guest(zone_of_blocks(BLOCKS)) as guest:
        guest.segment.header[H_COMPACTION] = 1
        guest.set_marks(0, 0, 0)
        assert retry(guest.base, order, KERNEL, result, priority, retries) == expected


def test_a_request_that_may_not_do_io_does_not_compact(zone: Fragmented) -> None:
    gfp = parse_packed_gfp("GFP_NOIO")
    assert compact(zone.guest.base, 9, UNMOVABLE, gfp, PRIORITY_SYNC_LIGHT) == SKIPPED
    assert retry(zone.guest.base, 2, gfp, SUCCESS, 1, 0) == (1, NO_RETRY)


@pytest.mark.parametrize(("compaction", "served"), [(0, False), (1, True)])
def test_the_slow_path_compacts_for_a_kernel_request(
    zone: Fragmented, compaction: int, served: bool
) -> None:
    """Order 4 in a zone of single free pages: an unmovable request first looks at page blocks of
    its own type, of which there are none; after reclaim, that frees nothing, at all.
    """
    guest = zone.guest
    guest.segment.header[H_COMPACTION] = compaction
    pfn = guest.alloc(4, UNMOVABLE, KERNEL)
    assert (pfn >= 0) == served
    results = [event["result"] for event in zone.events()]
    assert results == ([COMPLETE, SUCCESS] if served else [])


def test_an_optional_costly_request_gives_up_when_a_zone_is_put_off(zone: Fragmented) -> None:
    for _ in range(2):
        defer(zone.guest.base, 4)
    assert zone.guest.alloc(4, UNMOVABLE, NORETRY_KERNEL) < 0
    assert zone.events() == []


def test_kcompactd_works_until_a_block_is_there(zone: Fragmented) -> None:
    guest = zone.guest
    wake(guest.base, 9)
    assert guest.word(Z_KCOMPACTD_ORDER) == 9
    assert guest.segment.header[H_KSWAPD_WAKE] == 1
    background(guest.base)
    assert guest.word(Z_KCOMPACTD_ORDER) == 0
    guest.drain()
    assert guest.free_list(9) == [0]


def test_kcompactd_works_in_slices() -> None:
    """16 page blocks at a time; what it looks for is the 21st."""
    blocks = 16
    with core_guest(zone_of_blocks(blocks), table_words=TABLE, loads=1) as guest:
        zone = Fragmented(guest)
        zone.halve(20 * 512)
        for pfn in range((blocks * 2 - 5) * 512, blocks * 1024, 2):
            guest.give(pfn)
        wake(guest.base, 9)
        guest.segment.header[H_KSWAPD_WAKE] = 0
        background(guest.base)
        assert guest.word(Z_KCOMPACTD_ORDER) == 9
        assert guest.word(Z_COMPACT_MIGRATE) == SLICE_PAGEBLOCKS * 512
        assert guest.segment.header[H_KSWAPD_WAKE] == 1, "at the next chance"
        background(guest.base)
        assert guest.word(Z_KCOMPACTD_ORDER) == 0
        assert [event["pageblocks"] for event in zone.events()] == [16, 5]
        guest.drain()
        assert guest.free_list(9) == [20 * 512]


def test_kcompactd_leaves_a_table_alone_that_its_cpu_unmaps(zone: Fragmented) -> None:
    """The table stays taken between the bursts of an unmapping; a replay's is nobody's."""
    guest = zone.guest
    zone.set_load(L_BUSY, 1)
    wake(guest.base, 9)
    background(guest.base)
    assert zone.table() == zone.held


def test_kcompactd_is_not_woken_for_what_it_cannot_do(zone: Fragmented) -> None:
    guest = zone.guest
    guest.set_marks(FREE, FREE, FREE)
    wake(guest.base, 9)
    assert guest.word(Z_KCOMPACTD_ORDER) == 0


def test_kcompactd_puts_off_what_came_to_nothing(zone: Fragmented) -> None:
    guest = zone.guest
    zone.set_load(L_HELD, 0)
    wake(guest.base, 9)
    background(guest.base)
    assert guest.word(Z_KCOMPACTD_ORDER) == 0
    assert deferred(guest.base, 9) == 1
