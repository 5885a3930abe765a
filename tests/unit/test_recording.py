"""Recorded loads: what the recordings give, and the rules one by one on constructed traces."""

import gzip
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from pagesoak.allocator import requests
from pagesoak.allocator.free_lists import (
    FreeBlock,
    FreeListSnapshot,
    ZoneSnapshot,
    format_free_lists,
)
from pagesoak.allocator.gfp import USER_MOVABLE
from pagesoak.allocator.recording import LostEvents, Recording, load_recording, load_trace
from pagesoak.allocator.requests import ALLOC, FREE, FREE_BOOT
from pagesoak.base.errors import InputError

RECORDINGS = Path(__file__).parents[1] / "recordings"

NOTHING_ODD = {
    "failed_allocations": 0,
    "unmatched_frees": 0,
    "compaction_frees": 0,
    "unrecorded_frees": 0,
    "unrecorded_boot_frees": 0,
    "partial_frees": 0,
    "mixed_frees": 0,
    "lost_events": 0,
}
# Allocations from the first exact snapshot on, and what becomes of every free.
SUMMARIES = {
    "w1": {"allocations": 15053, "frees": 14550, "boot_frees": 6333, "snapshots": 7},
    "w2": {"allocations": 65020, "frees": 65014, "boot_frees": 6311, "snapshots": 5},
    "w2thp": {"allocations": 36206, "frees": 36198, "boot_frees": 3756, "snapshots": 11},
    "w4p": {
        "allocations": 106625,
        "failed_allocations": 10,
        "frees": 106546,
        "boot_frees": 3780,
        "snapshots": 10,
        "unmatched_frees": 1031,
        "compaction_frees": 1011,
    },
}


@cache
def recorded(run: str) -> Recording:
    return load_recording(RECORDINGS / run)


@pytest.mark.parametrize("run", SUMMARIES)
def test_recordings(run: str) -> None:
    recording = recorded(run)
    expected = {**NOTHING_ODD, **SUMMARIES[run]}
    summary = recording.summary()
    assert {name: summary[name] for name in expected} == expected
    columns = recording.requests
    assert summary["requests"] == sum(expected[n] for n in ("allocations", "frees", "boot_frees"))
    assert {len(column) for column in columns} == {summary["requests"]}
    assert all(b >= a for a, b in zip(columns.time_ns, columns.time_ns[1:], strict=False))
    check_identities(recording)


def check_identities(recording: Recording) -> None:
    """Allocations count up; each is freed at most once, after it was made, where it lies."""
    assert recording.start is not None
    free_at_start = dict(recording.start.free_blocks())
    held: dict[int, tuple[int, int]] = {}
    seen: set[int] = set()
    columns = recording.requests
    rows = zip(columns.opcode, columns.identity, columns.order, columns.recorded_pfn, strict=True)
    for opcode, identity, order, pfn in rows:
        if opcode == ALLOC:
            assert identity == len(seen)
            seen.add(identity)
            if pfn >= 0:
                held[identity] = (pfn, order)
        elif opcode == FREE:
            assert held.pop(identity) == (pfn, order)
        else:
            assert opcode == FREE_BOOT
            assert pfn == identity
            assert pfn not in free_at_start


def test_start_and_marks_of_a_recording() -> None:
    recording = recorded("w2")
    assert recording.name == "w2"
    assert recording.start_ns == 6_866_586_000
    assert recording.start is not None
    assert recording.start.t_ns == 6_866_795_070
    marks = recording.snapshots
    assert [mark.line for mark in marks] == [135237, 155061, 334026, 353539]
    assert marks[-1].snapshot.t_ns == 26_927_287_540
    lines = recording.requests.line
    for mark in marks:
        before, after = lines[mark.requests - 1], lines[mark.requests : mark.requests + 1]
        assert before < mark.line
        assert all(line > mark.line for line in after)


# ---- constructed traces ----

START = FreeListSnapshot(
    zones=(
        ZoneSnapshot(
            name="DMA32",
            start_pfn=0x1000,
            spanned=1024,
            managed=1024,
            wmark_min=1,
            wmark_low=2,
            wmark_high=3,
            nr_free=512 + 16,
            lowmem_reserve=(0, 0),
            free_lists={(4, 1): (FreeBlock(0x1010),), (9, 1): (FreeBlock(0x1200),)},
            pagesets=(),
            first_pageblock_pfn=0x1000,
            pageblock_types=(1, 1),
        ),
    ),
    t_ns=5_000_000_000,
)


class Trace:
    """Writes trace lines a microsecond apart, from second 6 on."""

    def __init__(self, folder: Path, *, cpu: int = 0) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.cpu = cpu

    def line(self, event: str, *, cpu: int = 0, micros: int | None = None) -> None:
        """Any event."""
        micros = len(self.lines) if micros is None else micros
        self.lines.append(f"  wl-1 [{cpu:03}] .....     6.{micros:06}: {event}")

    def alloc(self, pfn: int, order: int = 0) -> None:
        """mm_page_alloc."""
        flags = "migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE"
        self.line(f"mm_page_alloc: page=x pfn={pfn:#x} order={order} {flags}")

    def free(self, pfn: int, order: int = 0) -> None:
        """mm_page_free."""
        self.line(f"mm_page_free: page=x pfn={pfn:#x} order={order}")

    def batched(self, pfn: int) -> None:
        """mm_page_free_batched."""
        self.line(f"mm_page_free_batched: page=x pfn={pfn:#x} order=0")

    def load(self, start: FreeListSnapshot | None = START) -> Recording:
        """The recording these lines make."""
        path = self.folder / "trace.txt"
        path.write_text("".join(f"{line}\n" for line in self.lines))
        if start is None:
            return load_trace(path)
        snapshot = self.folder / "start.free"
        snapshot.write_text(format_free_lists(start))
        return load_trace(path, snapshot)


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return Trace(tmp_path)


def rows(recording: Recording) -> list[tuple[int, ...]]:
    """(opcode, identity, order, offset, line) of each request."""
    r = recording.requests
    return list(zip(r.opcode, r.identity, r.order, r.offset, r.line, strict=True))


def test_a_free_names_the_allocation(trace: Trace) -> None:
    trace.alloc(0x1010)
    trace.alloc(0x1200, order=9)
    trace.free(0x1010)
    trace.alloc(0x1010)
    trace.free(0x1200, order=9)
    trace.free(0x1010)
    recording = trace.load()
    assert rows(recording) == [
        (ALLOC, 0, 0, 0, 1),
        (ALLOC, 1, 9, 0, 2),
        (FREE, 0, 0, 0, 3),
        (ALLOC, 2, 0, 0, 4),
        (FREE, 1, 9, 0, 5),
        (FREE, 2, 0, 0, 6),
    ]
    columns = recording.requests
    assert list(columns.time_ns) == [0, 1000, 2000, 3000, 4000, 5000]
    assert list(columns.gfp) == [USER_MOVABLE, USER_MOVABLE, 0, USER_MOVABLE, 0, 0]
    assert list(columns.migratetype) == [1, 1, 0, 1, 0, 0]
    assert list(columns.recorded_pfn) == [0x1010, 0x1200, 0x1010, 0x1010, 0x1200, 0x1010]


def test_a_page_in_use_at_the_start(trace: Trace) -> None:
    trace.free(0x1001)
    trace.free(0x1002, order=1)
    trace.free(0x1001)  # free by now
    trace.free(0x1011)  # free at the start
    trace.alloc(0x1001)
    recording = trace.load()
    assert rows(recording) == [
        (FREE_BOOT, 0x1001, 0, 0, 1),
        (FREE_BOOT, 0x1002, 1, 0, 2),
        (ALLOC, 0, 0, 0, 5),
    ]
    assert recording.counts.unmatched_frees == 2
    assert recording.counts.unrecorded_boot_frees == 0
    assert recording.counts.boot_pages == 512 - 16


def test_without_a_snapshot_only_the_trace_is_known(trace: Trace) -> None:
    trace.free(0x1001)
    trace.alloc(0x77777)
    trace.free(0x77777)
    recording = trace.load(None)
    assert rows(recording) == [(ALLOC, 0, 0, 0, 2), (FREE, 0, 0, 0, 3)]
    assert recording.start is None
    assert recording.counts.unmatched_frees == 1
    assert recording.summary()["snapshots"] == 0


def test_batched_frees_happen_at_the_batched_event(trace: Trace) -> None:
    for pfn in (0x1010, 0x1011, 0x1012):
        trace.alloc(pfn)
    for pfn in (0x1010, 0x1001, 0x1011, 0x1012):
        trace.free(pfn)
    trace.batched(0x1001)
    trace.alloc(0x1013)
    trace.batched(0x1011)
    trace.batched(0x1010)
    recording = trace.load()
    assert rows(recording)[3:] == [
        (FREE, 2, 0, 0, 7),  # never batched: where it stands
        (FREE_BOOT, 0x1001, 0, 0, 8),
        (ALLOC, 3, 0, 0, 9),
        (FREE, 1, 0, 0, 10),
        (FREE, 0, 0, 0, 11),
    ]
    assert list(recording.requests.time_ns)[3:] == [6000, 7000, 8000, 9000, 10000]


def test_a_batched_event_belongs_to_the_free_before_it(trace: Trace) -> None:
    trace.alloc(0x1010)
    trace.free(0x1010)
    trace.alloc(0x1010)
    trace.free(0x1010)
    trace.batched(0x1010)
    assert rows(trace.load()) == [
        (ALLOC, 0, 0, 0, 1),
        (FREE, 0, 0, 0, 2),
        (ALLOC, 1, 0, 0, 3),
        (FREE, 1, 0, 0, 5),
    ]


def test_a_batched_event_prepared_before_the_start(trace: Trace) -> None:
    trace.batched(0x1001)
    trace.batched(0x1011)
    trace.free(0x1012)
    trace.batched(0x1012)
    recording = trace.load()
    assert rows(recording) == [(FREE_BOOT, 0x1001, 0, 0, 1)]
    assert recording.counts.unmatched_frees == 2


def test_failed_allocations_are_requests(trace: Trace) -> None:
    trace.alloc(0, order=3)
    trace.alloc(0x1010)
    trace.free(0x1010)
    recording = trace.load()
    assert rows(recording) == [(ALLOC, 0, 3, 0, 1), (ALLOC, 1, 0, 0, 2), (FREE, 1, 0, 0, 3)]
    assert list(recording.requests.recorded_pfn)[:2] == [-1, 0x1010]
    assert recording.counts.failed_allocations == 1


def test_pages_freed_without_an_event_are_freed_before_they_are_taken(trace: Trace) -> None:
    trace.alloc(0x1010, order=1)
    trace.alloc(0x1010, order=1)
    trace.alloc(0x1000, order=2)
    trace.free(0x1010, order=1)
    recording = trace.load()
    assert rows(recording) == [
        (ALLOC, 0, 1, 0, 1),
        (FREE, 0, 1, 0, 2),
        (ALLOC, 1, 1, 0, 2),
        (FREE_BOOT, 0x1000, 2, 0, 3),
        (ALLOC, 2, 2, 0, 3),
        (FREE, 1, 1, 0, 4),
    ]
    assert recording.counts.unrecorded_frees == 1
    assert recording.counts.unrecorded_boot_frees == 1


def test_a_split_allocation_is_freed_in_parts(trace: Trace) -> None:
    trace.alloc(0x1010, order=2)
    trace.free(0x1012)
    trace.free(0x1010, order=1)
    trace.alloc(0x1010, order=2)  # 0x1013 is still held
    recording = trace.load()
    assert rows(recording) == [
        (ALLOC, 0, 2, 0, 1),
        (FREE, 0, 0, 2, 2),
        (FREE, 0, 1, 0, 3),
        (FREE, 0, 0, 3, 4),
        (ALLOC, 1, 2, 0, 4),
    ]
    assert recording.counts.partial_frees == 3
    assert recording.counts.unrecorded_frees == 1


def test_one_free_of_several_owners(trace: Trace) -> None:
    trace.alloc(0x1010)
    trace.alloc(0x1012, order=1)
    trace.free(0x1010, order=2)
    trace.batched(0x1010)
    recording = trace.load()
    assert rows(recording)[2:] == [(FREE, 0, 0, 0, 3), (FREE, 1, 1, 0, 3)]
    assert recording.counts.mixed_frees == 1
    assert recording.counts.unmatched_frees == 0


def test_runs_of_pages_as_aligned_blocks() -> None:
    assert list(requests._aligned_blocks(5, 7)) == [(5, 0), (6, 1), (8, 2)]
    assert list(requests._aligned_blocks(0, 3)) == [(0, 1), (2, 0)]
    assert list(requests._aligned_blocks(8, 8)) == [(8, 3)]


def test_pages_that_compaction_took(trace: Trace) -> None:
    page = 0xFFD4_0000_0000_0000 + 0x1010 * 64
    trace.alloc(0x1200)
    trace.line(f"isolate: (__isolate_free_page+0x0/0x2b0) page={page:#x} order=4")
    trace.free(0x1011)
    trace.free(0x1011)
    trace.line("process: (page_reporting_process+0x0/0x570)")
    page += 0x210 * 64
    trace.line(f"isolate: (__isolate_free_page+0x0/0x2b0) page={page:#x} order=4")
    trace.free(0x1220)
    trace.line("process_ret: (x <- page_reporting_process)")
    counts = trace.load().counts
    assert (counts.unmatched_frees, counts.compaction_frees) == (3, 1)


def test_cpus_a_little_out_of_order(trace: Trace) -> None:
    trace.alloc(0x1010)
    trace.line("mm_page_free: page=x pfn=0x1001 order=0", cpu=1, micros=500)
    trace.line("mm_page_free: page=x pfn=0x1002 order=0", cpu=0, micros=400)
    trace.line("mm_page_free: page=x pfn=0x1003 order=0", cpu=1, micros=600)
    columns = trace.load().requests
    assert list(columns.time_ns) == [0, 500_000, 500_000, 600_000]
    assert list(columns.cpu) == [0, 1, 0, 1]


def test_lost_events_are_counted(trace: Trace) -> None:
    trace.lines.append("CPU:0 [LOST 99 EVENTS]")
    trace.alloc(0x1010)
    trace.lines.append("CPU:0 [LOST 7 EVENTS]")
    trace.lines.append("CPU:0 [LOST EVENTS]")
    recording = trace.load()
    assert recording.lost == (LostEvents(3, 7), LostEvents(4, -1))
    assert recording.summary()["lost_events"] == 8


def test_the_snapshot_says_where_a_trace_starts(trace: Trace) -> None:
    for pfn in (0x1010, 0x1011, 0x1012, 0x1013):
        trace.alloc(pfn)
    trace.line("truth_capture: (truth_capture+0x0/0x330 [truthdev])")
    trace.alloc(0x1014)

    def first_line(t_ns: int) -> tuple[int, int]:
        recording = trace.load(replace(START, t_ns=t_ns))
        return recording.requests.line[0], recording.start_ns

    assert first_line(1) == (1, 6_000_000_000)
    assert first_line(6_000_001_500) == (3, 6_000_002_000)
    assert first_line(6_000_004_500) == (6, 6_000_004_000)  # the capture itself, a little earlier
    with pytest.raises(InputError, match=r"start.free: taken at 7000000000 ns, after every event"):
        first_line(7_000_000_000)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "trace.txt: no event in the trace"),
        (["tracing_mark_write: BEGIN"], "no allocation or free in the trace after its start"),
        (["mm_page_free: page=x pfn=0x1400 order=0"],
         "trace.txt:1: pfn 0x1400 is in no zone of the snapshot"),
        (["mm_page_free: page=x pfn=0xfff order=0"],
         "trace.txt:1: pfn 0xfff is in no zone of the snapshot"),
        (["mm_page_free: page=x pfn=0x1001 order=1"],
         "trace.txt:1: pfn 0x1001 is not aligned to order 1"),
    ],
)  # fmt: skip
def test_traces_refused(trace: Trace, lines: list[str], message: str) -> None:
    for line in lines:
        trace.line(line)
    with pytest.raises(InputError) as caught:
        trace.load(START if lines else None)
    assert str(caught.value).endswith(message)


def test_limits(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    trace.alloc(0x1010)
    trace.alloc(0x1011)
    monkeypatch.setattr(requests, "MAX_REQUESTS", 1)
    with pytest.raises(InputError, match=r"trace.txt:2: more than 1 requests"):
        trace.load()
    monkeypatch.setattr(requests, "MAX_SPAN_PAGES", 1000)
    with pytest.raises(InputError, match="the zones of its snapshot span 1024 pages"):
        trace.load()


# ---- folders ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small recording: two exact snapshots in a series, one at the end, one from before."""
    folder = tmp_path / "run"
    folder.mkdir()
    trace = Trace(folder)
    trace.free(0x1001)
    trace.line("truth_capture: (x)", micros=100)
    trace.alloc(0x1010)
    trace.line("truth_capture: (x)", micros=200)
    trace.free(0x1010)
    trace.batched(0x1010)
    trace.line("truth_capture: (x)", micros=300)
    numbered = [line.replace("6.0000", "6.0002", 1) for line in trace.lines[4:6]]
    trace.lines[2] = trace.lines[2].replace("6.000002", "6.000102")
    trace.lines[4:6] = numbered
    (folder / "trace.txt").write_text("".join(f"{line}\n" for line in trace.lines))
    series = ""
    for number, t_ns in enumerate([6_000_100_500, 6_000_200_500]):
        series += f"=== SNAP {number} t_ns=1\n--- vmstat\nnr_x 1\n--- truth_free\n"
        series += format_free_lists(replace(START, t_ns=t_ns))
    (folder / "snaps.txt").write_text(series)
    after = format_free_lists(replace(START, t_ns=6_000_300_500))
    (folder / "after.free.gz").write_bytes(gzip.compress(after.encode()))
    (folder / "before.free").write_text(format_free_lists(replace(START, t_ns=5)))
    return folder


def test_a_folder(folder: Path) -> None:
    recording = load_recording(folder)
    assert recording.name == "run"
    assert recording.start == replace(START, t_ns=6_000_100_500)
    assert recording.start_ns == 6_000_100_000
    assert rows(recording) == [(ALLOC, 0, 0, 0, 3), (FREE, 0, 0, 0, 6)]
    marks = [(mark.requests, mark.line, mark.snapshot.t_ns) for mark in recording.snapshots]
    assert marks == [(1, 4, 6_000_200_500), (2, 7, 6_000_300_500)]


def test_folders_refused(folder: Path) -> None:
    (folder / "after.free.gz").unlink()
    with pytest.raises(InputError, match=r"trace.txt:7: truth_capture without a snapshot"):
        load_recording(folder)
    (folder / "snaps.txt").unlink()
    with pytest.raises(InputError, match=r"trace.txt:2: truth_capture without a snapshot"):
        load_recording(folder)
    lines = (folder / "trace.txt").read_text().splitlines(keepends=True)
    (folder / "trace.txt").write_text(lines[0])
    with pytest.raises(InputError, match=r"trace.txt: no exact snapshot \(truth_capture\)"):
        load_recording(folder)
    (folder / "trace.txt").unlink()
    with pytest.raises(InputError, match=r"run: no trace.txt.gz or trace.txt in it"):
        load_recording(folder)
    folder = shutil.move(folder, folder.with_name("moved"))
    with pytest.raises(InputError, match=r"run: no trace.txt.gz or trace.txt in it"):
        load_recording(folder.with_name("run"))


def test_recording_without_requests() -> None:
    with pytest.raises(InputError, match="no allocation or free in the trace"):
        load_recording(RECORDINGS / "bal_idle")
