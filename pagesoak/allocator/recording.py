"""A recorded load: the guest at one instant, and every request from there on.

Made from a recording's folder (trace, exact snapshots) or from a trace of the user's own. No zone
event is used: which zone a page comes from is for the model to say. A replay of the requests must
free by *allocation*, not by pfn; see `pagesoak.allocator.requests`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import read_free_lists, read_snapshots
from pagesoak.allocator.requests import ALLOC, FREE, FREE_BOOT, RequestBuilder, Requests
from pagesoak.allocator.trace import read_trace
from pagesoak.allocator.trace_record import TraceRecord
from pagesoak.base.errors import InputError

SNAPSHOT_SKEW_NS = 10_000_000
"""How much later than its event in the trace a snapshot may be stamped: the recorder takes the
time itself, after the event; up to 0.3 ms in the recordings made under emulation.
"""

TRACE_NAMES = ("trace.txt.gz", "trace.txt")
SERIES_NAMES = ("snaps.txt.gz", "snaps.txt")
SNAPSHOT_NAMES = ("before.free.gz", "before.free", "after.free.gz", "after.free")


class SnapshotMark(NamedTuple):
    """An exact snapshot taken during the trace: after `requests` requests, at event `line`."""

    requests: int
    time_ns: int
    line: int
    snapshot: FreeListSnapshot


@dataclass(frozen=True)
class Recording:
    """The start and the requests of a replay; arrays are not to be changed.

    `start` is None when nothing is known of the guest before the trace. `start_ns` by the trace's
    clock is time 0 of the requests. `snapshots` are the later ones. Counts of what the trace does
    not tell: `unmatched_frees` (dropped; `compaction_frees` of them are pages that compaction had
    taken), `unrecorded_frees` and `unrecorded_boot_frees` (allocations that took pages in use: a
    free was put before each), `mixed_frees` (one event, several owners), `lost_events` and the
    lines that say so.
    """

    name: str
    start: FreeListSnapshot | None
    start_ns: int
    requests: Requests
    snapshots: tuple[SnapshotMark, ...]
    allocations: int
    failed_allocations: int
    boot_pages: int
    unmatched_frees: int
    compaction_frees: int
    unrecorded_frees: int
    unrecorded_boot_frees: int
    partial_frees: int
    mixed_frees: int
    lost_events: int
    lost_lines: tuple[int, ...]

    def summary(self) -> dict[str, int]:
        """All counts, for people and for JSON."""
        opcodes = self.requests.opcode
        times = self.requests.time_ns
        return {
            "requests": len(opcodes),
            "allocations": opcodes.count(ALLOC),
            "failed_allocations": self.failed_allocations,
            "frees": opcodes.count(FREE),
            "boot_frees": opcodes.count(FREE_BOOT),
            "partial_frees": self.partial_frees,
            "mixed_frees": self.mixed_frees,
            "unmatched_frees": self.unmatched_frees,
            "compaction_frees": self.compaction_frees,
            "unrecorded_frees": self.unrecorded_frees,
            "unrecorded_boot_frees": self.unrecorded_boot_frees,
            "boot_pages": self.boot_pages,
            "lost_events": self.lost_events,
            "snapshots": len(self.snapshots) + (self.start is not None),
            "duration_ns": times[-1] if times else 0,
        }


def load_recording(folder: str | Path) -> Recording:
    """The load recorded in a folder, from the first exact snapshot in its trace on.

    The folder holds `trace.txt` and `snaps.txt` or `*.free` files, each plain or gzip. Every
    truth_capture event must have its snapshot. Raises `InputError` with file and line.
    """
    folder = Path(folder)
    trace = _first_of(folder, TRACE_NAMES)
    if trace is None:
        raise InputError(f"no {TRACE_NAMES[0]} or {TRACE_NAMES[1]} in it", file=folder)
    snapshots = sorted(_snapshots_of(folder), key=lambda snapshot: snapshot.t_ns)
    reader = _Reader(str(trace), _Captures(snapshots, str(trace)))
    recording = reader.read(read_trace(trace), folder.name)
    if recording is None:
        raise InputError("no exact snapshot (truth_capture) in the trace", file=trace)
    return recording


def load_trace(trace: str | Path, snapshot: str | Path | None = None) -> Recording:
    """The load of a single trace, from the instant of the `.free` snapshot on, if there is one.

    A snapshot older than the trace starts it at its beginning (what happened in between is not
    known). Without a snapshot every request counts and nothing is known of pages in use before.
    Raises `InputError` with file and line; for a snapshot younger than the trace's last event, too.
    """
    start = None if snapshot is None else read_free_lists(snapshot)
    reader = _Reader(str(trace), None, start)
    recording = reader.read(read_trace(trace), Path(trace).name)
    if recording is None:
        if start is None:
            raise InputError("no event in the trace", file=trace)
        message = f"the snapshot ({start.t_ns} ns) is younger than every event of {trace}"
        raise InputError(message, file=snapshot)
    return recording


def _first_of(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _snapshots_of(folder: Path) -> Iterator[FreeListSnapshot]:
    series = _first_of(folder, SERIES_NAMES)
    if series is not None:
        yield from (numbered.snapshot for numbered in read_snapshots(series))
    for name in SNAPSHOT_NAMES:
        if (folder / name).exists():
            yield read_free_lists(folder / name)


class _Captures:
    """Finds the snapshot of each truth_capture event; both come in the order of time."""

    def __init__(self, snapshots: Iterable[FreeListSnapshot], file: str) -> None:
        self._left = list(snapshots)
        self._file = file

    def take(self, event: TraceRecord) -> FreeListSnapshot:
        """The snapshot taken at this event; older ones were taken outside of the trace."""
        while self._left:
            snapshot = self._left.pop(0)
            if snapshot.t_ns > event.time_ns + SNAPSHOT_SKEW_NS:
                break
            if snapshot.t_ns >= event.time_ns:
                return snapshot
        message = "truth_capture without a snapshot of that time"
        raise InputError(message, file=self._file, line=event.line)


class _Reader:
    """Reads a trace once. Start: its first snapshot, or the instant of a given one."""

    def __init__(
        self, file: str, captures: _Captures | None, start: FreeListSnapshot | None = None
    ) -> None:
        self._file = file
        self._captures = captures
        self._start = start
        self._start_ns = 0
        self._builder: RequestBuilder | None = None
        self._marks: list[tuple[TraceRecord, FreeListSnapshot, int]] = []
        self._passes = 0
        self._lost: list[TraceRecord] = []

    def read(self, events: Iterator[TraceRecord], name: str) -> Recording | None:
        """The recording, None when the start is not in the trace."""
        for event in events:
            kind = event.kind
            if kind in _NOT_REQUESTS:
                continue
            builder = self._builder or self._begin(event)
            if kind > kinds.MM_PAGE_FREE_BATCHED:
                self._mark(event)
            elif builder is None:
                continue
            elif kind == kinds.MM_PAGE_ALLOC:
                builder.alloc(event)
            elif kind == kinds.MM_PAGE_FREE:
                builder.free(event)
            else:
                builder.free_batched(event)
        return None if self._builder is None else self._finish(self._builder, name)

    def _begin(self, event: TraceRecord) -> RequestBuilder | None:
        """The builder, if this event is the first of the replay or the snapshot before it."""
        if self._captures is not None:
            return None
        after = self._start
        if after is not None and not self._is_after(event, after):
            return None
        self._start_ns = event.time_ns if after is None else max(after.t_ns, event.time_ns)
        return self._build()

    @staticmethod
    def _is_after(event: TraceRecord, snapshot: FreeListSnapshot) -> bool:
        earliest = snapshot.t_ns
        if event.kind == kinds.TRUTH_CAPTURE:
            earliest -= SNAPSHOT_SKEW_NS
        return event.time_ns >= earliest
