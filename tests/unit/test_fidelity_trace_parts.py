"""Parts of the trace check: interrupts in a list of frees, the end of kswapd, reclaim, repairs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.allocator.free_read import FreeListReader
from pagesoak.allocator.gfp import KERNEL, USER_MOVABLE
from pagesoak.allocator.profile import PROFILES
from pagesoak.base.layout import (
    MOVABLE,
    P_COUNT,
    UNMOVABLE,
    Z_BOOST,
    Z_COUNTER_DRIFT,
    Z_COUNTER_STEP,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
    Z_RECLAIM_ACTIVE,
    Z_WMARK_LOW,
)
from pagesoak.study.fidelity_trace_core import (
    ALLOC,
    FREE,
    FREED,
    NOT_TAKEN,
    reclaimed_too_little,
    trace_alloc,
    trace_free,
)
from pagesoak.study.fidelity_trace_driven import Driven
from pagesoak.study.fidelity_trace_events import PREPARED, TraceColumns, read_columns
from pagesoak.study.fidelity_trace_guest import TraceGuest, normal_step
from pagesoak.study.fidelity_trace_kswapd import Kswapd, Request, make_again, run_ends
from pagesoak.study.fidelity_trace_reclaim import ReclaimEvents
from pagesoak.study.fidelity_trace_repair import BULK, FURTHER_DOWN, ZONE, GuestPair
from pagesoak.study.fidelity_trace_reporter import TraceReporter
from tests.trace_slice import exact_snapshots

DMA, DMA32 = 0, 1
EVENT = "  {task}  [000] {state} {time}: {name}: {fields}"
HALF_SECOND_US = 500_000


@pytest.fixture(scope="module")
def snapshot_lines() -> list[str]:
    """The first exact snapshot of w1."""
    return exact_snapshots("w1", 1)[0][2:]


@pytest.fixture
def guests(snapshot_lines: list[str]) -> Iterator[list[TraceGuest]]:
    """Four guests in the state of one snapshot."""
    reader = FreeListReader("snapshot")
    for number, line in enumerate(snapshot_lines, start=1):
        reader.feed(number, line)
    snapshot = reader.finish()
    made = [TraceGuest(snapshot, PROFILES["6.1"], "snapshot") for _ in range(4)]
    yield made
    for guest in made:
        guest.close()


def state(guest: TraceGuest) -> list[list[int]]:
    """All pageset lists and the low free lists."""
    zones = guest.zone_numbers
    lists = [guest.pageset_list(zone, index) for zone in zones for index in range(14)]
    return lists + [
        guest.free_list(zone, order, migratetype)
        for zone in zones
        for order in range(11)
        for migratetype in range(3)
    ]


def alloc(guest: TraceGuest, order: int = 0) -> int:
    """A movable user page."""
    return trace_alloc(guest.base, order, MOVABLE, USER_MOVABLE, 0)


def columns_of(folder: Path, *events: tuple[str, str, int, str, str]) -> TraceColumns:
    """A trace of (task, state, microseconds, name, fields)."""
    text = "".join(
        EVENT.format(
            task=task, state=where, time=f"{us / 1e6:.6f}", name=name, fields=fields
        ).lstrip()
        + "\n"
        for task, where, us, name, fields in events
    )
    path = folder / "trace.txt"
    path.write_text(text)
    columns = read_columns(path)
    assert columns.fault is None
    return columns


def free(us: int, pfn: int, where: str = ".....", name: str = "mm_page_free") -> tuple:  # type: ignore[type-arg]
    """An event of a free."""
    return ("rm-1", where, us, name, f"page=0 pfn={pfn:#x} order=0")


@pytest.mark.parametrize(
    ("place", "interrupted"),
    [
        pytest.param(2, {}, id="before the list is begun"),
        pytest.param(3, {3: 0x100}, id="in the middle"),
        pytest.param(4, {}, id="after its last page"),
    ],
)
def test_only_in_the_middle_of_a_list_is_the_pageset_locked(
    tmp_path: Path, place: int, interrupted: dict[int, int]
) -> None:
    events = [
        free(1, 0x100),
        free(2, 0x101),
        free(3, 0x100, "...2.", "mm_page_free_batched"),
        free(4, 0x101, "...2.", "mm_page_free_batched"),
    ]
    events.insert(place, free(place, 0x9000, ".Ns2."))
    columns = columns_of(tmp_path, *events)
    assert columns.interrupted == interrupted
    assert columns.kind.count(PREPARED) == 2


def test_a_free_past_the_pageset_goes_to_the_buddy_lists(guests: list[TraceGuest]) -> None:
    guest, other, *_ = guests
    pfn = alloc(guest)
    assert alloc(other) == pfn
    free_pages = guest.zone_word(DMA32, Z_FREE_PAGES)
    assert trace_free(guest.base, pfn, 0, 1) == FREED
    assert trace_free(other.base, pfn, 0, 0) == FREED
    assert guest.zone_word(DMA32, Z_FREE_PAGES) == free_pages + 1
    assert other.zone_word(DMA32, Z_FREE_PAGES) == free_pages
    assert trace_free(guest.base, pfn, 0, 0) == NOT_TAKEN


def test_a_block_is_freed_in_parts(guests: list[TraceGuest]) -> None:
    guest = guests[0]
    pfn = alloc(guest, order=9)
    assert trace_free(guest.base, pfn + 3, 0, 1) == FREED
    assert trace_free(guest.base, pfn + 3, 0, 1) == NOT_TAKEN
    assert trace_free(guest.base, pfn + 4, 2, 1) == FREED
    assert trace_free(guest.base, pfn, 0, 1) == FREED


def test_normal_step_by_memory_and_cpus() -> None:
    """The table in the kernel's own comment."""
    gigabyte = 1 << 18
    assert [normal_step(gigabyte - 1, cpus) for cpus in (1, 2)] == [8, 16]
    assert normal_step(3840, 1) == 2
    assert normal_step(112_757, 1) == 6
    assert normal_step(1 << 40, 1024) == 125


def test_a_run_of_kswapd_ends_at_its_last_event(tmp_path: Path) -> None:
    columns = columns_of(
        tmp_path,
        ("kswapd0-38", ".....", 1, "mm_vmscan_kswapd_wake", "nid=0 order=0"),
        ("kswapd0-38", ".....", 2, "mm_page_free", "page=0 pfn=0x100 order=0"),
        ("wl-1", ".....", 3, "mm_page_free", "page=0 pfn=0x101 order=0"),
        ("kswapd0-38", ".....", 4, "mm_vmscan_kswapd_sleep", "nid=0"),
        ("kswapd0-38", ".....", 5, "mm_vmscan_kswapd_wake", "nid=0 order=0"),
    )
    assert run_ends(columns) == {1, 4}


def test_kswapd_takes_back_the_boost_that_it_saw(guests: list[TraceGuest]) -> None:
    guest, saved, *_ = guests
    kswapd = Kswapd(saved)
    guest.set_zone_word(DMA32, Z_BOOST, 512)
    kswapd.begin(guest, 0, 0)
    assert guest.zone_word(DMA32, Z_RECLAIM_ACTIVE) == 1
    guest.set_zone_word(DMA32, Z_BOOST, 1024)
    kswapd.end(guest)
    assert guest.zone_word(DMA32, Z_BOOST) == 512
    assert guest.zone_word(DMA32, Z_RECLAIM_ACTIVE) == 0
    assert kswapd.wakes_compaction


def test_a_later_end_of_kswapd_is_found_at_a_miss(guests: list[TraceGuest]) -> None:
    """The true run goes on for some frees, so they are drained; then the guest sleeps."""
    guest, truth, saved, _ = guests
    taken = [alloc(truth) for _ in range(200)]
    assert [alloc(guest) for _ in range(200)] == taken
    kswapd, true_kswapd = Kswapd(saved), Kswapd(guests[3])
    for one, other in ((kswapd, guest), (true_kswapd, truth)):
        one.begin(other, 0, 0)
    kswapd.end(guest)  # too early
    requests = [Request(1000 * i, FREE, pfn, 0) for i, pfn in enumerate(taken)]
    for request in requests:
        make_again(truth, request)
    true_kswapd.end(truth)
    for request in requests:
        make_again(guest, request)
        kswapd.note(request)
    assert truth.pageset_word(DMA32, P_COUNT) < guest.pageset_word(DMA32, P_COUNT)
    now_ns = 1_000_000_000
    misses = 0
    for number in range(150):
        pfn = alloc(truth)
        request = Request(now_ns + number, ALLOC, pfn, 0, MOVABLE, USER_MOVABLE)
        if alloc(guest) == pfn:
            kswapd.note(request)
        else:
            misses += 1
            assert kswapd.reconsider(guest, request)
    assert misses == 1
    assert state(guest) == state(truth)


def test_no_later_end_explains_everything(guests: list[TraceGuest]) -> None:
    guest, saved, *_ = guests
    kswapd = Kswapd(saved)
    kswapd.begin(guest, 0, 0)
    kswapd.end(guest)
    kswapd.note(Request(1, ALLOC, alloc(guest), 0, MOVABLE, USER_MOVABLE))
    assert not kswapd.reconsider(guest, Request(2, ALLOC, 0x12345, 0, MOVABLE, USER_MOVABLE))


def test_direct_reclaim_that_freed_too_little_empties_the_pagesets(
    guests: list[TraceGuest],
) -> None:
    guest = guests[0]
    before = guest.pageset_word(DMA32, P_COUNT)
    assert before > 0
    assert reclaimed_too_little(guest.base, 0, MOVABLE, USER_MOVABLE) == 0
    assert guest.pageset_word(DMA32, P_COUNT) == before
    for zone in guest.zone_numbers:
        guest.set_zone_word(zone, Z_FREE_PAGES, 0)
    assert reclaimed_too_little(guest.base, 0, MOVABLE, USER_MOVABLE) == 1
    assert guest.pageset_word(DMA32, P_COUNT) == 0


@pytest.mark.parametrize(
    ("boost", "pause_us", "drained"),
    [
        pytest.param(512, 1000, True, id="woken for a boost"),
        pytest.param(0, 1000, False, id="not woken"),
        pytest.param(512, 2 * HALF_SECOND_US, False, id="by itself, later"),
    ],
)
def test_kcompactd_empties_the_pageset_only_when_it_was_woken(
    guests: list[TraceGuest], tmp_path: Path, boost: int, pause_us: int, drained: bool
) -> None:
    guest, behind, saved, _ = guests
    start = guest.snapshot.zones[DMA32].start_pfn
    where = f"zone_start={start:#x} migrate_pfn=0x1000"
    columns = columns_of(
        tmp_path,
        ("kswapd0-38", ".....", 1, "mm_vmscan_kswapd_wake", "nid=0 order=0"),
        ("kcompactd0-28", ".....", 2 + pause_us, "mm_compaction_begin", where),
        ("kcompactd0-28", ".....", 3 + pause_us, "mm_compaction_end", f"{where} status=complete"),
    )
    driven = Driven(GuestPair(guest, behind), TraceReporter(guest.segment, 9), Kswapd(saved))
    driven.pair.same()
    guest.set_zone_word(DMA32, Z_BOOST, boost)
    events = ReclaimEvents()
    events.event(driven, columns, 0)
    events.kswapd_ended(driven, columns.time_ns[0])
    for index in (1, 2):
        events.event(driven, columns, index)
    assert (guest.pageset_word(DMA32, P_COUNT) == 0) == drained
    driven.reporter.close()


@pytest.mark.parametrize(
    ("migratetype", "pages", "reason"),
    [
        pytest.param(UNMOVABLE, 4, BULK, id="a kernel stack"),
        pytest.param(UNMOVABLE, 8, BULK, id="two of them"),
        pytest.param(UNMOVABLE, 3, FURTHER_DOWN, id="no kernel stack"),
        pytest.param(MOVABLE, 4, FURTHER_DOWN, id="of user pages"),
    ],
)
def test_pages_that_left_the_pageset_without_an_event(
    guests: list[TraceGuest], migratetype: int, pages: int, reason: str
) -> None:
    guest, behind, truth, _ = guests
    pair = GuestPair(guest, behind)
    gfp = USER_MOVABLE if migratetype == MOVABLE else KERNEL
    *_, pfn = [trace_alloc(truth.base, 0, migratetype, gfp, 0) for _ in range(pages + 1)]
    request = Request(0, ALLOC, pfn, 0, migratetype, gfp)
    got = pair.alloc(request)
    assert got != pfn
    repair = pair.repair(request, got)
    assert (repair.reason, repair.pages) == (reason, pages)
    assert state(guest) == state(truth) == state(behind)


def test_a_wrong_zone_brings_the_counter_up_to_date(guests: list[TraceGuest]) -> None:
    """The model's counter reads a page too many in DMA32; the kernel's did not: it went to DMA."""
    guest, behind, truth, _ = guests
    reserve = guest.zone_word(DMA32, Z_LOWMEM_RESERVE + 3)
    low = guest.zone_word(DMA32, Z_WMARK_LOW) + reserve
    for one in (guest, behind, truth):
        one.set_zone_word(DMA32, Z_FREE_PAGES, low)
        one.set_zone_word(DMA32, Z_COUNTER_STEP, 6)
        one.set_zone_word(DMA32, Z_COUNTER_DRIFT, 0)
    guest.set_zone_word(DMA32, Z_COUNTER_DRIFT, -1)
    pair = GuestPair(guest, behind)
    pfn = alloc(truth)
    assert truth.zone_of(pfn) == DMA
    request = Request(0, ALLOC, pfn, 0, MOVABLE, USER_MOVABLE)
    got = pair.alloc(request)
    assert guest.zone_of(got) == DMA32
    assert pair.repair(request, got).reason == ZONE
    assert guest.zone_word(DMA32, Z_COUNTER_DRIFT) == 0
    assert state(guest) == state(truth)
