"""A recorded load: the guest at one instant, and every request from there on.

Made from a recording's folder (trace, exact snapshots) or from a trace of the user's own. No zone
event is used: which zone a page comes from is for the model to say. A replay of the requests must
free by *allocation*, not by pfn; see `pagesoak.allocator.requests`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.requests import FREE, FREE_BOOT, RequestBuilder, RequestCounts, Requests
from pagesoak.allocator.snapshot_series import read_snapshots
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


class LostEvents(NamedTuple):
    """A line that says events were lost; `events` is -1 when it does not say how many."""

    line: int
    events: int


@dataclass(frozen=True)
class Recording:
    """The start and the requests of a replay; the arrays are not to be changed.

    `start` is None when nothing is known of the guest before the trace. `start_ns` by the trace's
    clock is time 0 of the requests. `snapshots` are the later ones.
    """

    name: str
    start: FreeListSnapshot | None
    start_ns: int
    requests: Requests
    counts: RequestCounts
    snapshots: tuple[SnapshotMark, ...]
    lost: tuple[LostEvents, ...]

    def summary(self) -> dict[str, int]:
        """All counts, for people and for JSON."""
        opcodes = self.requests.opcode
        return {
            "requests": len(opcodes),
            "frees": opcodes.count(FREE),
            "boot_frees": opcodes.count(FREE_BOOT),
            **self.counts._asdict(),
            "lost_events": sum(abs(lost.events) for lost in self.lost),
            "snapshots": len(self.snapshots) + (self.start is not None),
            "duration_ns": self.requests.time_ns[-1],
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
    captures = _Captures(_snapshots_of(folder), str(trace))
    recording = _read(trace, folder.name, captures.is_capture, captures)
    if recording is None:
        raise InputError("no exact snapshot (truth_capture) in the trace", file=trace)
    return recording


def load_trace(trace: str | Path, snapshot: str | Path | None = None) -> Recording:
    """The load of a single trace, from the instant of the `.free` snapshot on, if there is one.

    A snapshot older than the trace starts it at its beginning (what happened in between is not
    known). Without a snapshot every request counts and nothing is known of pages in use before.
    Raises `InputError` with file and line; for a snapshot younger than the trace's end, too.
    """
    trace = Path(trace)
    start = None if snapshot is None else read_free_lists(snapshot)

    def begins(event: TraceRecord) -> bool:
        if start is None or event.time_ns >= start.t_ns:
            return True
        skew = SNAPSHOT_SKEW_NS if event.kind == kinds.TRUTH_CAPTURE else 0
        return event.time_ns + skew >= start.t_ns

    recording = _read(trace, trace.name, begins, start)
    if recording is None and start is not None:
        message = f"taken at {start.t_ns} ns, after every event of {trace}"
        raise InputError(message, file=snapshot)
    if recording is None:
        raise InputError("no event in the trace", file=trace)
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
        by_time = sorted(snapshots, key=lambda snapshot: snapshot.t_ns)
        self._left = deque(by_time)
        self._file = file

    @staticmethod
    def is_capture(event: TraceRecord) -> bool:
        return event.kind == kinds.TRUTH_CAPTURE

    def take(self, event: TraceRecord) -> FreeListSnapshot:
        """The snapshot taken at this event; older ones were taken outside of the trace."""
        while self._left and self._left[0].t_ns <= event.time_ns + SNAPSHOT_SKEW_NS:
            snapshot = self._left.popleft()
            if snapshot.t_ns >= event.time_ns:
                return snapshot
        message = "truth_capture without a snapshot of that time"
        raise InputError(message, file=self._file, line=event.line)


def _read(
    trace: Path,
    name: str,
    begins: Callable[[TraceRecord], bool],
    given: _Captures | FreeListSnapshot | None,
) -> Recording | None:
    """The recording from the first event on for which `begins`; None if there is none."""
    events = read_trace(trace)
    passes = 0
    for first in events:
        passes += _pass_step(first)
        if begins(first):
            break
    else:
        return None
    captures = given if isinstance(given, _Captures) else None
    start = given if not isinstance(given, _Captures) else given.take(first)
    builder = RequestBuilder(start, first.time_ns, str(trace))
    rarer = _RarerEvents(builder, captures, passes)
    if first.kind != kinds.TRUTH_CAPTURE:
        events = chain([first], events)
    for event in events:
        kind = event.kind
        if kind == kinds.MM_PAGE_ALLOC:
            builder.alloc(event)
        elif kind == kinds.MM_PAGE_FREE:
            builder.free(event)
        elif kind == kinds.MM_PAGE_FREE_BATCHED:
            builder.free_batched(event)
        else:
            rarer.take(event)
    requests, marks = builder.finish([mark.requests for mark in rarer.marks])
    if not requests.opcode:
        raise InputError("no allocation or free in the trace after its start", file=trace)
    snapshots = (
        mark._replace(requests=count) for mark, count in zip(rarer.marks, marks, strict=True)
    )
    return Recording(
        name, start, first.time_ns, requests, builder.counts, tuple(snapshots), tuple(rarer.lost)
    )


def _pass_step(event: TraceRecord) -> int:
    """Whether a reporting pass begins (1) or ends (-1) here."""
    if event.kind == kinds.PROCESS:
        return 1
    return -1 if event.kind == kinds.PROCESS_RET else 0


class _RarerEvents:
    """What is no request: later snapshots, lost events, pages that compaction takes."""

    def __init__(self, builder: RequestBuilder, captures: _Captures | None, passes: int) -> None:
        self.marks: list[SnapshotMark] = []
        self.lost: list[LostEvents] = []
        self._builder = builder
        self._captures = captures
        self._passes = passes

    def take(self, event: TraceRecord) -> None:
        """Any event."""
        self._passes += _pass_step(event)
        if event.kind == kinds.LOST:
            self.lost.append(LostEvents(event.line, event.value))
        elif event.kind == kinds.ISOLATE and not self._passes:
            self._builder.isolated_by_compaction(event)
        elif event.kind == kinds.TRUTH_CAPTURE and self._captures is not None:
            snapshot = self._captures.take(event)
            mark = SnapshotMark(self._builder.rows, event.time_ns, event.line, snapshot)
            self.marks.append(mark)
