"""The balloon host without memory: the device model, the ledger, and the worker that asks both."""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    H_RAM_BYTES,
    H_TOUCH,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_ISOLATED,
    NEXT,
    PAGE_WORDS,
    PREVIOUS,
    R_COUNT,
    R_ERROR,
    R_PUNCHED_BYTES,
    R_REQUEST,
    R_SERVED,
    R_START,
    REPORTING_CAPACITY,
    STAMPED,
    STATE,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
)
from pagesoak.base.recorder import read_events
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import (
    HOST_CALLS,
    HOST_RANGES,
    HOST_REQUESTS_DROPPED,
    LEDGER_BREACHES,
    PUNCHED_BYTES,
    read_statistics,
)
from pagesoak.base.units import MIB, PAGE_SIZE_BYTES
from pagesoak.base.wants import Answer, Now, Run, Sleep
from pagesoak.host import backing, ledger, ram
from pagesoak.host.device import HostModel, Service, service
from tests.hostguest import HOST, MAX_PFN, Host, entry_words, isolate, make_segment, stamped_pages

LAST = REPORTING_CAPACITY - 1
BLOCKS = ((1024, 10), (2560, 9), (512, 3))
"""First page and order of the blocks of a batch; the last one is the one that is tampered with."""


class NotedRam:
    """Notes what is punched; every page was backed."""

    def __init__(self) -> None:
        self.punched: list[tuple[int, int]] = []
        self.on_punch: Callable[[int], None] = lambda _pfn: None

    def punch(self, first_pfn: int, pages: int) -> int:
        """As GuestRam.punch."""
        self.punched.append((first_pfn, pages))
        self.on_punch(first_pfn)
        return pages * PAGE_SIZE_BYTES


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = make_segment()
    yield made
    made.close()


def counters(segment: Segment) -> tuple[int, ...]:
    return read_statistics(segment, HOST).counters


def events(segment: Segment) -> list[tuple[str, dict[str, int]]]:
    return [(event.name, event.fields) for event in read_events(segment, HOST)[0]]


# ---- the device ----


def test_a_plain_device_adds_nothing() -> None:
    assert service(HostModel(), 1, 32 << 10) == Service(0, 0)


def test_latency_is_per_call_and_per_mib() -> None:
    model = HostModel(latency_per_call_ns=500_000, latency_per_mib_ns=1_000)
    assert service(model, 7, 0) == Service(500_000, 0)
    assert service(model, 7, 32 << 10) == Service(500_000 + 128 * 1_000, 0)
    assert service(model, 7, 8) == Service(500_000 + 8 * PAGE_SIZE_BYTES * 1_000 // MIB, 0)


def test_every_nth_call_fails_and_takes_no_time_for_memory() -> None:
    model = HostModel(latency_per_call_ns=5, latency_per_mib_ns=1_000, error_every_calls=3)
    assert [service(model, call, 512).error for call in range(1, 7)] == [0, 0, 5, 0, 0, 5]
    assert service(model, 3, 512) == Service(5, errno.EIO)


# ---- a request that is in order ----


def test_every_range_is_checked_punched_checked_and_entered(segment: Segment) -> None:
    memory = NotedRam()
    isolate(segment, 1, BLOCKS)
    host = Host(segment, memory)
    host.serve(1)
    names = [want.name for want in host.wants if isinstance(want, Run)]
    each = ["check-entry", "punch", "mark-punched"]
    assert names == ["begin-request", *each * len(BLOCKS), "finish-request"]
    assert memory.punched == [(pfn, 1 << order) for pfn, order in BLOCKS]
    assert host.answers == [Answer(1, 0)]
    assert (segment.report[R_SERVED], segment.report[R_ERROR]) == (1, 0)


def test_figures_of_a_request(segment: Segment) -> None:
    isolate(segment, 1, BLOCKS)
    Host(segment, NotedRam()).serve(1)
    punched_bytes = (1024 + 512 + 8) * PAGE_SIZE_BYTES
    found = counters(segment)
    assert found[HOST_CALLS] == 1
    assert found[HOST_RANGES] == 3
    assert found[PUNCHED_BYTES] == segment.report[R_PUNCHED_BYTES] == punched_bytes
    assert events(segment)[-1] == (
        "host-punched",
        {"request": 1, "pfn": 512, "pages": 8, "punched_bytes": 8 * PAGE_SIZE_BYTES},
    )


def test_punched_bytes_of_the_device_are_those_of_one_request(segment: Segment) -> None:
    host = Host(segment, NotedRam())
    for request in (1, 2):
        isolate(segment, request, BLOCKS)
        host.serve(request)
    assert segment.report[R_PUNCHED_BYTES] == (1024 + 512 + 8) * PAGE_SIZE_BYTES
    assert counters(segment)[PUNCHED_BYTES] == 2 * segment.report[R_PUNCHED_BYTES]


def test_only_the_punched_pages_lose_their_stamps(segment: Segment) -> None:
    isolate(segment, 1, ((1024, 10), (2560, 9)))
    isolate(segment, 2, ((512, 3),))
    for neighbour in (511, 520):
        segment.pages[neighbour * PAGE_WORDS + STATE] = KIND_ALLOCATED | STAMPED
    before = stamped_pages(segment)
    memory = NotedRam()
    still_stamped = []
    memory.on_punch = lambda _pfn: still_stamped.append(stamped_pages(segment) == before)
    Host(segment, memory).serve(2)
    assert still_stamped == [True]
    assert before - stamped_pages(segment) == set(range(512, 520))
    assert segment.pages[512 * PAGE_WORDS + STATE] == KIND_ISOLATED | 3


def test_a_full_list_is_served(segment: Segment) -> None:
    memory = NotedRam()
    blocks = [(1024 + 8 * number, 3) for number in range(REPORTING_CAPACITY)]
    assert isolate(segment, 1, blocks) == 0
    Host(segment, memory).serve(1)
    assert len(memory.punched) == REPORTING_CAPACITY


def test_latency_is_slept_after_the_punches_and_before_the_answer(segment: Segment) -> None:
    isolate(segment, 1, ((1024, 8),))
    host = Host(segment, NotedRam(), HostModel(latency_per_call_ns=70, latency_per_mib_ns=9))
    began_ns = host.now_ns
    host.serve(1)
    assert [type(want) for want in host.wants[-5:]] == [Run, Now, Sleep, Run, Answer]
    assert [want.name for want in host.wants if isinstance(want, Run)][-2:] == [
        "mark-punched",
        "finish-request",
    ]
    assert host.wants[-3] == Sleep(began_ns + 79)


def test_without_latency_nothing_sleeps(segment: Segment) -> None:
    isolate(segment, 1, BLOCKS)
    host = Host(segment, NotedRam())
    host.serve(1)
    assert not any(isinstance(want, Now | Sleep) for want in host.wants)


def test_a_failing_call_punches_nothing_and_keeps_the_stamps(segment: Segment) -> None:
    memory = NotedRam()
    host = Host(segment, memory, HostModel(error_every_calls=2))
    for request in (1, 2, 3):
        isolate(segment, request, BLOCKS)
        before = stamped_pages(segment)
        host.serve(request)
        assert (stamped_pages(segment) == before) == (request == 2)
    assert host.answers == [Answer(1, 0), Answer(2, errno.EIO), Answer(3, 0)]
    assert len(memory.punched) == 2 * len(BLOCKS)
    assert ("host-error", {"request": 2, "errno": errno.EIO}) in events(segment)


def test_a_failing_call_is_checked_all_the_same(segment: Segment) -> None:
    isolate(segment, 1, BLOCKS)
    segment.pages[512 * PAGE_WORDS + NEXT] = 9
    with pytest.raises(HarnessError, match="isolated for another request"):
        Host(segment, NotedRam(), HostModel(error_every_calls=1)).serve(1)


def test_without_ram_the_ledger_is_kept(segment: Segment) -> None:
    nothing = ram.open_ram(segment, touch=False)
    assert segment.header[H_TOUCH] == 0
    isolate(segment, 1, BLOCKS)
    host = Host(segment, nothing)
    host.serve(1)
    assert host.answers == [Answer(1, 0)]
    assert counters(segment)[PUNCHED_BYTES] == 0
    isolate(segment, 2, BLOCKS)
    segment.pages[512 * PAGE_WORDS + NEXT] = 1
    with pytest.raises(HarnessError, match="isolated for another request"):
        host.serve(2)


# ---- requests that came late or twice ----


def test_a_request_is_served_once(segment: Segment) -> None:
    memory = NotedRam()
    isolate(segment, 5, BLOCKS)
    host = Host(segment, memory)
    host.serve(5)
    memory.punched.clear()
    host.serve(5)
    assert memory.punched == []
    assert host.answers == [Answer(5, 0)]
    assert counters(segment)[HOST_REQUESTS_DROPPED] == 1


@pytest.mark.parametrize("late", [4, 6, 0])
def test_a_request_that_is_not_pending_is_dropped(segment: Segment, late: int) -> None:
    memory = NotedRam()
    isolate(segment, 5, BLOCKS)
    host = Host(segment, memory)
    host.serve(late)
    assert (memory.punched, host.answers) == ([], [])
    assert counters(segment)[HOST_REQUESTS_DROPPED] == 1
    host.serve(5)
    assert host.answers == [Answer(5, 0)]


def test_request_numbers_may_begin_again(segment: Segment) -> None:
    host = Host(segment, NotedRam())
    for request in (0x7FFF_FFFF, 1):
        isolate(segment, request, BLOCKS)
        host.serve(request)
    assert host.answers == [Answer(0x7FFF_FFFF, 0), Answer(1, 0)]


def test_a_host_that_was_replaced_drops_what_is_answered(segment: Segment) -> None:
    isolate(segment, 3, BLOCKS)
    segment.report[R_SERVED] = 3
    memory = NotedRam()
    Host(segment, memory).serve(3)
    assert memory.punched == []


# ---- breaches ----


def set_entry(index: int, word: int, value: int) -> Callable[[Segment], None]:
    def crime(segment: Segment) -> None:
        segment.report[entry_words(index) + word] = value

    return crime


def set_record(pfn: int, word: int, value: int) -> Callable[[Segment], None]:
    def crime(segment: Segment) -> None:
        segment.pages[pfn * PAGE_WORDS + word] = value

    return crime


def set_report(word: int, value: int) -> Callable[[Segment], None]:
    def crime(segment: Segment) -> None:
        segment.report[word] = value

    return crime


def name_free_block(segment: Segment) -> None:
    """The entry names, correctly in all else, a block that was never isolated."""
    segment.pages[520 * PAGE_WORDS + STATE] = KIND_FREE | 3
    segment.report[entry_words(LAST) + E_PFN] = 520


def name_block_twice(segment: Segment) -> None:
    """The last entry names the block of the first."""
    for word in (E_PFN, E_ORDER, E_PAGES):
        there = segment.report[entry_words(LAST - 2) + word]
        segment.report[entry_words(LAST) + word] = there


def grow_over_other_zone(segment: Segment) -> None:
    """The border between the zones lies inside an aligned range."""
    segment.zones[Z_END_PFN] = 516
    segment.zones[ZONE_WORDS + Z_START_PFN] = 516


def shrink_ram(segment: Segment) -> None:
    segment.header[H_TOUCH] = 1
    segment.header[H_RAM_BYTES] = (MAX_PFN - 1) * PAGE_SIZE_BYTES
    segment.report[entry_words(LAST) + E_PFN] = MAX_PFN - 8


ENTRY_CRIMES = [
    pytest.param(set_entry(LAST, E_ORDER, 2), ledger.WRONG_ORDER, id="order-not-reported"),
    pytest.param(set_entry(LAST, E_ORDER, -1), ledger.WRONG_ORDER, id="order-negative"),
    pytest.param(set_entry(LAST, E_ORDER, 11), ledger.WRONG_ORDER, id="order-beyond-the-largest"),
    pytest.param(set_entry(LAST, E_PAGES, 16), ledger.WRONG_PAGES, id="one-block-too-long"),
    pytest.param(set_entry(LAST, E_PAGES, 9), ledger.WRONG_PAGES, id="one-page-too-long"),
    pytest.param(set_entry(LAST, E_PFN, 513), ledger.UNALIGNED, id="unaligned"),
    pytest.param(set_entry(LAST, E_PFN, -8), ledger.UNALIGNED, id="negative"),
    pytest.param(set_entry(LAST, E_PFN, MAX_PFN), ledger.OUTSIDE_MEMORY, id="behind-the-end"),
    pytest.param(set_entry(LAST, E_PFN, 1 << 40), ledger.OUTSIDE_MEMORY, id="far-behind-the-end"),
    pytest.param(set_entry(LAST, E_PFN, 0), ledger.OUTSIDE_MEMORY, id="before-the-first-zone"),
    pytest.param(grow_over_other_zone, ledger.OUTSIDE_MEMORY, id="in-two-zones"),
    pytest.param(shrink_ram, ledger.OUTSIDE_MEMORY, id="behind-the-end-of-ram"),
    pytest.param(name_free_block, ledger.NOT_ISOLATED, id="free-block"),
    pytest.param(
        set_record(512, STATE, KIND_ALLOCATED | 3), ledger.NOT_ISOLATED, id="allocated-block"
    ),
    pytest.param(
        set_record(512, STATE, KIND_ISOLATED | 4), ledger.NOT_ISOLATED, id="isolated-as-larger"
    ),
    pytest.param(
        set_record(512, NEXT, 6), ledger.OTHER_REQUEST, id="isolated-for-another-request"
    ),
    pytest.param(set_record(512, PREVIOUS, LAST - 1), ledger.OTHER_ENTRY, id="in-another-entry"),
    pytest.param(name_block_twice, ledger.OTHER_ENTRY, id="named-twice"),
]


@pytest.mark.parametrize(("crime", "breach"), ENTRY_CRIMES)
def test_a_range_that_breaks_the_ledger_is_not_punched(
    segment: Segment, crime: Callable[[Segment], None], breach: int
) -> None:
    memory = NotedRam()
    isolate(segment, 7, BLOCKS)
    crime(segment)
    host = Host(segment, memory)
    with pytest.raises(HarnessError) as caught:
        host.serve(7)
    message = str(caught.value)
    assert message.startswith(f"host ledger: report 7: {ledger.BREACHES[breach]}: entry 31 names")
    assert caught.value.exit_code == 3
    assert memory.punched == [(1024, 1024), (2560, 512)]
    assert set(range(513, 520)) <= stamped_pages(segment)
    assert host.answers == [Answer(7, errno.EIO)]
    assert counters(segment)[LEDGER_BREACHES] == 1
    names = [name for name, _ in events(segment)]
    assert names == ["host-punched", "host-punched", "ledger-breach", "host-error"]


REQUEST_CRIMES = [
    pytest.param(set_report(R_START, -1), ledger.OUTSIDE_LIST, id="start-negative"),
    pytest.param(set_report(R_COUNT, 0), ledger.OUTSIDE_LIST, id="empty"),
    pytest.param(set_report(R_COUNT, 4), ledger.OUTSIDE_LIST, id="one-too-many"),
    pytest.param(set_report(R_COUNT, 2), ledger.END_MARKER, id="marker-behind-the-count"),
    pytest.param(set_entry(LAST - 1, E_END, 1), ledger.END_MARKER, id="marker-too-early"),
    pytest.param(set_entry(LAST, E_END, 0), ledger.END_MARKER, id="no-marker"),
]


@pytest.mark.parametrize(("crime", "breach"), REQUEST_CRIMES)
def test_a_list_that_breaks_the_ledger_is_not_touched(
    segment: Segment, crime: Callable[[Segment], None], breach: int
) -> None:
    memory = NotedRam()
    isolate(segment, 7, BLOCKS)
    crime(segment)
    host = Host(segment, memory)
    with pytest.raises(HarnessError, match=f"report 7: {ledger.BREACHES[breach]}$"):
        host.serve(7)
    assert memory.punched == []
    assert host.answers == [Answer(7, errno.EIO)]


@pytest.mark.parametrize(
    ("crime", "breach"),
    [
        (set_record(512, STATE, KIND_FREE | 3), ledger.NOT_ISOLATED),
        (set_record(512, NEXT, 8), ledger.OTHER_REQUEST),
        (set_report(R_REQUEST, 0), ledger.NOT_PENDING),
        (set_report(R_START, LAST + 1), ledger.OUTSIDE_REQUEST),
    ],
)
def test_a_block_that_was_put_back_under_the_punch_is_a_breach(
    segment: Segment, crime: Callable[[Segment], None], breach: int
) -> None:
    memory = NotedRam()
    isolate(segment, 7, ((512, 3),))

    def put_back(_pfn: int) -> None:
        crime(segment)

    memory.on_punch = put_back
    with pytest.raises(HarnessError, match=ledger.BREACHES[breach]):
        Host(segment, memory).serve(7)
    assert set(range(513, 520)) <= stamped_pages(segment)
    assert counters(segment)[PUNCHED_BYTES] == 0


@pytest.mark.parametrize(
    ("pfn", "kind"), [(513, KIND_ISOLATED), (516, KIND_ALLOCATED), (519, KIND_FREE)]
)
def test_a_block_that_begins_inside_a_punched_one_is_a_breach(
    segment: Segment, pfn: int, kind: int
) -> None:
    isolate(segment, 7, ((512, 3),))
    segment.pages[pfn * PAGE_WORDS + STATE] = kind
    host = Host(segment, NotedRam())
    with pytest.raises(HarnessError, match=ledger.BREACHES[ledger.BLOCK_INSIDE]):
        host.serve(7)
    assert host.answers == [Answer(7, errno.EIO)]
    assert counters(segment)[LEDGER_BREACHES] == 1


def test_every_breach_has_its_words() -> None:
    assert list(ledger.BREACHES) == list(range(ledger.NOT_PENDING, ledger.BLOCK_INSIDE + 1))
    assert len(set(ledger.BREACHES.values())) == len(ledger.BREACHES)


def test_memory_that_cannot_be_punched_ends_the_host(segment: Segment) -> None:
    memory = NotedRam()

    def refuse(_pfn: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    memory.on_punch = refuse
    isolate(segment, 1, ((512, 3),))
    with pytest.raises(HarnessError, match="cannot punch 8 pages at 0x200 out of guest RAM"):
        Host(segment, memory).serve(1)
    assert set(range(512, 520)) <= stamped_pages(segment)


# ---- punching, as far as it needs no memory ----


class InterruptedCalls:
    """Plays the C library: fails with each errno given, then succeeds."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.calls: list[tuple[int, ...]] = []

    def fallocate(self, *arguments: int) -> int:
        """Fails while there are errnos left."""
        self.calls.append(arguments)
        if not self.numbers:
            return 0
        ctypes.set_errno(self.numbers.pop(0))
        return -1


def test_an_interrupted_punch_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    library = InterruptedCalls(errno.EINTR, errno.EINTR)
    monkeypatch.setattr(ram, "_libc", library)
    ram.punch_hole(9, 4096, 8192)
    assert library.calls == [(9, 3, 4096, 8192)] * 3


def test_a_refused_punch_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram, "_libc", InterruptedCalls(errno.EINTR, errno.ENODEV))
    with pytest.raises(OSError, match="No such device") as caught:
        ram.punch_hole(9, 4096, 8192)
    assert caught.value.errno == errno.ENODEV


def test_memory_that_stays_is_not_said_to_have_gone_back(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ram.GuestRam(16)
    try:
        with memory.file.view() as view:
            view[:] = b"x" * len(view)
        monkeypatch.setattr(ram, "_libc", InterruptedCalls())
        assert memory.punch(0, 16) == 0
    finally:
        memory.close()


def test_the_page_table_of_a_process_that_has_ended_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some kernels refuse to scan it, some find nothing there: neither present nor missing."""
    library = ScannedTables(found=0)
    monkeypatch.setattr(backing, "_libc", library)
    assert not backing.PageTable(9).holds(0x10000, 0x8000)
    assert library.scans == [(0x10000, 0x18000), (0x10000, 0x10000 + mmap.PAGESIZE)]


class ScannedTables:
    """Plays the C library: a page table in which every look finds as much."""

    def __init__(self, found: int) -> None:
        self.found = found
        self.scans: list[tuple[int, int]] = []

    def ioctl(self, _descriptor: int, _request: int, scan: list[int]) -> int:
        """Note the range of a scan."""
        self.scans.append((scan[2], scan[3]))
        return self.found


@given(st.integers(-3, 12), st.integers(-2, 12), st.integers(0, 4095), st.integers(0, 4095))
def test_only_whole_pages_inside_the_file_may_be_punched(
    first: int, pages: int, offset_rest: int, length_rest: int
) -> None:
    offset_bytes = first * 4096 + offset_rest
    length_bytes = pages * 4096 + length_rest
    allowed = (
        (offset_rest, length_rest) == (0, 0) and first >= 0 and pages > 0 and first + pages <= 10
    )
    try:
        backing.require_pages(offset_bytes, length_bytes, 10 * 4096, 4096)
    except HarnessError:
        assert not allowed
    else:
        assert allowed


def test_the_mapping_of_a_file_is_found_by_place_and_file() -> None:
    descriptor = os.memfd_create("pagesoak-test")
    try:
        status = os.fstat(descriptor)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        inode = status.st_ino
        name = "/memfd:pagesoak test (deleted)"
        heap = "5000-9000 rw-p 00000000 00:00 0\n"

        def line(extent: str, rights: str = "rw-s", offset: int = 0, number: int = inode) -> str:
            return f"{heap}{extent} {rights} {offset:08x} {device} {number} {name}\n"

        def found(maps: str) -> bool:
            return backing.maps_whole_file(maps, descriptor, 0x10000, 0x8000)

        assert found(line("10000-18000"))
        assert not found(heap)
        assert not found(line("10000-14000"))
        assert not found(line("20000-28000"))
        assert not found(line("10000-18000", rights="rw-p"))
        assert not found(line("10000-18000", offset=0x1000))
        assert not found(line("10000-18000", number=inode + 1))
    finally:
        os.close(descriptor)
