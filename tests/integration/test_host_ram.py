"""Guest RAM as it really is: a file, two processes, and what the kernel says stands behind it."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    E_PFN,
    H_RAM_ADDRESS,
    H_RAM_BYTES,
    H_TOUCH,
    KIND_ALLOCATED,
    KIND_ISOLATED,
    NEXT,
    PAGE_WORDS,
    PREVIOUS,
    R_PUNCHED_BYTES,
    REPORTING_CAPACITY,
    STATE,
)
from pagesoak.base.segment import Segment
from pagesoak.base.wants import Answer
from pagesoak.host import backing
from pagesoak.host.ram import GuestRam, open_ram, punch_hole
from tests.hostguest import MAX_PFN, Host, entry_words, isolate, make_segment, stamped_pages

PAGE = 4096
PAGES = 512
CONTENT = b"what the guest wrote"


@pytest.fixture
def ram() -> Iterator[GuestRam]:
    made = GuestRam(PAGES)
    yield made
    made.close()


def write(ram: GuestRam, *pfns: int) -> None:
    with ram.file.view() as view:
        for pfn in pfns:
            view[pfn * PAGE : pfn * PAGE + len(CONTENT)] = CONTENT


def read(ram: GuestRam, pfn: int) -> bytes:
    with ram.file.view() as view:
        return bytes(view[pfn * PAGE : (pfn + 1) * PAGE])


def is_intact(ram: GuestRam, *pfns: int) -> bool:
    return all(read(ram, pfn) == CONTENT.ljust(PAGE, b"\0") for pfn in pfns)


@contextlib.contextmanager
def guest(work: Callable[[], None]) -> Iterator[int]:
    """A process that does its work and then stays, with all it has mapped, until the end."""
    done_here, done_there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(done_there, b".")
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(done_here, 1) == b"."
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(done_here)
        os.close(done_there)


# ---- what a punch does ----


def test_punched_pages_read_zero_through_every_mapping(ram: GuestRam) -> None:
    write(ram, *range(PAGES))
    with mmap.mmap(ram.file.descriptor, PAGES * PAGE, mmap.MAP_SHARED) as other:
        assert other[8 * PAGE : 8 * PAGE + len(CONTENT)] == CONTENT
        assert ram.punch(8, 16) == 16 * PAGE
        assert other[8 * PAGE : 24 * PAGE] == bytes(16 * PAGE)
        assert all(read(ram, pfn) == bytes(PAGE) for pfn in range(8, 24))
        assert is_intact(ram, 7, 24)
        assert other[7 * PAGE : 7 * PAGE + len(CONTENT)] == CONTENT


def test_the_file_shrinks_by_what_is_said_to_have_gone_back(ram: GuestRam) -> None:
    write(ram, *range(100, 200))
    assert ram.file.backed_bytes() == 100 * PAGE
    assert ram.punch(64, 64) == 28 * PAGE
    assert ram.file.backed_bytes() == 72 * PAGE
    assert os.fstat(ram.file.descriptor).st_size == PAGES * PAGE


def test_nothing_goes_back_where_nothing_was(ram: GuestRam) -> None:
    assert ram.punch(0, PAGES) == 0
    write(ram, 3)
    assert ram.punch(0, PAGES) == PAGE
    assert ram.punch(0, PAGES) == 0


def test_a_page_written_again_goes_back_again(ram: GuestRam) -> None:
    for _ in range(3):
        write(ram, 5)
        assert ram.punch(4, 4) == PAGE


@pytest.mark.parametrize(
    ("offset_bytes", "length_bytes"),
    [
        (0, 4196),
        (1, PAGE),
        (PAGE // 2, PAGE),
        (0, 0),
        (PAGE, -PAGE),
        (-PAGE, PAGE),
        ((PAGES - 1) * PAGE, 2 * PAGE),
        (PAGES * PAGE, PAGE),
    ],
)
def test_a_range_that_is_not_whole_pages_of_ram_is_refused_untouched(
    ram: GuestRam, offset_bytes: int, length_bytes: int
) -> None:
    write(ram, *range(PAGES))
    with pytest.raises(HarnessError, match=r"^refused to punch -?\d+ bytes at -?0x"):
        ram.punch_bytes(offset_bytes, length_bytes)
    assert is_intact(ram, *range(PAGES))


def test_the_kernels_refusal_is_an_os_error() -> None:
    descriptor = os.memfd_create("pagesoak-test", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, PAGE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(OSError, match="not permitted") as caught:
            punch_hole(descriptor, 0, PAGE)
        assert caught.value.errno == errno.EPERM
    finally:
        os.close(descriptor)


# ---- how it is measured ----


def measured_bytes(ram: GuestRam, method: str, offset_bytes: int, length_bytes: int) -> int:
    descriptor = ram.file.descriptor
    if method == "walk":
        return backing.walk_backed_bytes(descriptor, offset_bytes, length_bytes)
    counter = backing.CacheCounter(descriptor)
    if counter.supported():
        return counter.backed_bytes(offset_bytes, length_bytes)
    return backing.walk_backed_bytes(descriptor, offset_bytes, length_bytes)


ranges = st.tuples(st.integers(0, 63), st.integers(1, 64)).map(
    lambda pair: (pair[0], min(pair[1], 64 - pair[0]))
)
subsets = st.one_of(
    st.sets(st.integers(0, 63)),
    ranges.map(lambda pair: set(range(pair[0], pair[0] + pair[1]))),
)


@pytest.mark.parametrize("method", ["cachestat", "walk"])
def test_every_method_counts_exactly(method: str) -> None:
    @given(subsets, ranges)
    def holds(written: set[int], extent: tuple[int, int]) -> None:
        first, pages = extent
        memory = GuestRam(64)
        try:
            write(memory, *written)
            found = measured_bytes(memory, method, first * PAGE, pages * PAGE)
            assert found == len(written & set(range(first, first + pages))) * PAGE
        finally:
            memory.close()

    holds()


@pytest.mark.parametrize("watched", [False, True])
def test_what_goes_back_is_exact_for_any_subset(*, watched: bool) -> None:
    @given(subsets, ranges)
    def holds(written: set[int], extent: tuple[int, int]) -> None:
        first, pages = extent
        memory = GuestRam(64)
        try:
            if watched:
                memory.watch(os.getpid)
            write(memory, *written)
            hit = written & set(range(first, first + pages))
            assert memory.punch(first, pages) == len(hit) * PAGE
            assert memory.file.backed_bytes() == len(written - hit) * PAGE
            assert is_intact(memory, *(written - hit))
        finally:
            memory.close()

    holds()


def test_a_page_table_holds_exactly_what_its_process_has_touched(ram: GuestRam) -> None:
    with guest(lambda: write(ram, *range(32), *range(40, 64))) as pid:
        descriptor, address = ram.file.descriptor, ram.address
        table = backing.PageTable.of_process(pid, descriptor, address, ram.size_bytes)
        if table is None:  # this kernel cannot scan, or lets nobody look: then all is counted
            assert not ram.watch(lambda: pid)
            return
        assert table.holds(address, 32 * PAGE)
        assert not table.holds(address, 33 * PAGE)
        assert not table.holds(address + 32 * PAGE, 8 * PAGE)
        assert not table.holds(address + 32 * PAGE, 32 * PAGE)
        assert not table.holds(address, 64 * PAGE)
        assert table.holds(address + 40 * PAGE, 24 * PAGE)
        table.close()


def test_only_a_process_that_has_this_ram_mapped_can_be_watched(ram: GuestRam) -> None:
    other = GuestRam(PAGES)
    try:
        nobody = os.fork()
        if nobody == 0:
            os._exit(0)
        os.waitpid(nobody, 0)
        assert not ram.watch(lambda: nobody)
        descriptor = other.file.descriptor
        table = backing.PageTable.of_process(os.getpid(), descriptor, ram.address, ram.size_bytes)
        assert table is None
    finally:
        other.close()


@pytest.mark.parametrize("method", ["cachestat", "walk"])
def test_guest_sees_zeros_and_host_measures_what_it_wrote(
    ram: GuestRam, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "walk":
        monkeypatch.setattr(ram._backing, "_is_counted", False)
    asked, told = os.pipe(), os.pipe()

    def touch_then_look() -> None:
        write(ram, *range(64), *range(65, 128, 2))
        if os.fork() == 0:  # the look is another process's, which inherits the mapping
            os.read(asked[0], 1)
            seen = all(read(ram, pfn) == bytes(PAGE) for pfn in range(8, 128))
            os.write(told[1], b"zero" if seen and is_intact(ram, *range(8)) else b"lost")
            os._exit(0)

    with guest(touch_then_look) as pid:
        ram.watch(lambda: pid)
        assert ram.punch(8, 56) == 56 * PAGE
        assert ram.punch(64, 64) == 32 * PAGE
        os.write(asked[1], b".")
        assert os.read(told[0], 4) == b"zero"
    for descriptor in (*asked, *told):
        os.close(descriptor)


def test_the_page_table_of_a_dead_guest_says_nothing(ram: GuestRam) -> None:
    with guest(lambda: write(ram, *range(64))) as pid:
        ram.watch(lambda: pid)
        assert ram.punch(0, 32) == 32 * PAGE
    assert ram.punch(0, 32) == 0
    write(ram, 3)
    assert ram.punch(0, 32) == PAGE
    assert ram.punch(32, 32) == 32 * PAGE


def can_scan(ram: GuestRam) -> bool:
    """Whether this kernel can scan a page table, and lets us."""
    file = ram.file.descriptor
    table = backing.PageTable.of_process(os.getpid(), file, ram.address, ram.size_bytes)
    if table is not None:
        table.close()
    return table is not None


def watched_pids() -> list[int]:
    """Whose page tables this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them is gone
            target = descriptor.readlink().parts
            found += [int(target[2])] if target[-1] == "pagemap" else []
    return found


def test_a_guest_in_the_place_of_a_dead_one_is_watched_from_the_next_punch_on(
    ram: GuestRam,
) -> None:
    words = [0]
    with guest(lambda: write(ram, *range(64))) as words[0]:
        assert ram.watch(lambda: words[0]) == can_scan(ram)
        assert ram.punch(0, 32) == 32 * PAGE
        assert watched_pids() == words * can_scan(ram)
    assert ram.punch(0, 32) == 0
    with guest(lambda: write(ram, *range(32))) as words[0]:
        assert ram.punch(0, 32) == 32 * PAGE
        assert watched_pids() == words * can_scan(ram)


def test_a_host_that_starts_while_its_guest_is_dead_watches_the_next(ram: GuestRam) -> None:
    words = [0]
    with guest(lambda: None) as words[0]:
        pass
    assert not ram.watch(lambda: words[0])
    assert ram.punch(0, 32) == 0
    with guest(lambda: write(ram, *range(32))) as words[0]:
        assert ram.punch(0, 32) == 32 * PAGE
        assert watched_pids() == words * can_scan(ram)


def test_faults_elsewhere_do_not_disturb_the_figure(ram: GuestRam) -> None:
    """The guest writes and loses other pages of the file all the while."""

    def churn() -> None:
        if os.fork() == 0:
            parent = os.getppid()
            while os.getppid() == parent:
                write(ram, *range(256, PAGES))
                punch_hole(ram.file.descriptor, 256 * PAGE, 256 * PAGE)
            os._exit(0)

    with guest(churn) as pid:
        for watched in (False, True):
            if watched:
                ram.watch(lambda: pid)
            for step in (1, 2, 3):
                written = range(0, 256, step)
                write(ram, *written)
                assert ram.punch(0, 256) == len(written) * PAGE


# ---- ledger and memory together ----


@pytest.fixture
def touched() -> Iterator[tuple[Segment, GuestRam]]:
    segment = make_segment()
    memory = open_ram(segment, touch=True)
    assert isinstance(memory, GuestRam)
    with memory.file.view() as view:
        view[:] = b"\x5a" * len(view)
    yield segment, memory
    memory.close()
    segment.close()


def punched_pages(ram: GuestRam) -> set[int]:
    """The pages that read zero; looking at them puts memory behind them again."""
    return {pfn for pfn in range(MAX_PFN) if read(ram, pfn) == bytes(PAGE)}


def test_ram_is_entered_in_the_header(touched: tuple[Segment, GuestRam]) -> None:
    segment, memory = touched
    assert segment.header[H_TOUCH] == 1
    assert segment.header[H_RAM_BYTES] == MAX_PFN * PAGE
    at = segment.header[H_RAM_ADDRESS] + 77 * PAGE
    assert ctypes.string_at(at, PAGE) == read(memory, 77) == b"\x5a" * PAGE


def test_a_request_punches_its_ranges_and_no_other_page(
    touched: tuple[Segment, GuestRam],
) -> None:
    segment, memory = touched
    isolate(segment, 1, ((1024, 10), (2560, 9), (512, 3)))
    host = Host(segment, memory)
    host.serve(1)
    named = {*range(1024, 2048), *range(2560, 3072), *range(512, 520)}
    assert host.answers == [Answer(1, 0)]
    assert segment.report[R_PUNCHED_BYTES] == len(named) * PAGE
    assert memory.file.backed_bytes() == (MAX_PFN - len(named)) * PAGE
    assert punched_pages(memory) == named
    assert not stamped_pages(segment)


@pytest.mark.parametrize(
    ("pfn", "word", "value"),
    [
        (512, STATE, KIND_ALLOCATED | 3),
        (512, STATE, KIND_ISOLATED | 4),
        (512, NEXT, 1),
        (512, PREVIOUS, 0),
    ],
    ids=["not-isolated", "other-order", "other-request", "other-entry"],
)
def test_a_range_that_breaks_the_ledger_keeps_its_content(
    touched: tuple[Segment, GuestRam], pfn: int, word: int, value: int
) -> None:
    segment, memory = touched
    isolate(segment, 2, ((1024, 10), (512, 3)))
    segment.pages[pfn * PAGE_WORDS + word] = value
    with pytest.raises(HarnessError, match="host ledger: report 2: "):
        Host(segment, memory).serve(2)
    assert punched_pages(memory) == set(range(1024, 2048))


def test_a_range_outside_ram_touches_nothing(touched: tuple[Segment, GuestRam]) -> None:
    segment, memory = touched
    isolate(segment, 1, ((512, 3),))
    segment.report[entry_words(REPORTING_CAPACITY - 1) + E_PFN] = MAX_PFN
    with pytest.raises(HarnessError, match="not inside one zone and guest RAM"):
        Host(segment, memory).serve(1)
    assert punched_pages(memory) == set()
