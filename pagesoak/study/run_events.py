"""The events of a run, one after the other, by time: streamed, checked, with notes about what is
not there.

Workers write at the same time and the runner collects ten times a second, so neighbours of
different workers may stand in the wrong order by a little; a heap of some thousand events puts
them right. The rings kept as evidence after a breach repeat what the runner had already written;
what is on record by then is not told twice. Lines that hold no event are left out and noted; a
last line without its end is one that was being written.
"""

import heapq
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.engine.event_log import BYTES_MAX, EVENTS_LOST
from pagesoak.study.run_record import EVENTS, EVIDENCE, RunRecord

_REQUEST = ("order", "gfp", "free_pages", "isolated_pages")
NEEDED: dict[str, tuple[str, ...]] = {
    "notify": ("order", "pfn", "state"),
    "pass-start": ("pass",),
    "pass-end": ("pass", "state", "calls"),
    "gate-closed": ("zone", "free_pages", "needed_pages"),
    "isolated": ("zone", "order", "entries", "pages", "free_pages"),
    "report": ("request", "entries", "pages", "free_pages", "isolated_pages"),
    "answer": ("request", "error", "window_ns"),
    "drained": ("request", "entries", "pages", "reported_pages", "free_pages"),
    "stalled": _REQUEST,
    "allocation-failed": _REQUEST,
    "oom": _REQUEST,
    "oom-kill": ("load", "pages", "asking_load"),
    "oom-wait": _REQUEST,
    "burst-begin": ("load", "pages", "free_pages", "isolated_pages"),
    "burst-taken": ("load", "pages", "free_pages", "isolated_pages"),
    "burst-end": ("load", "killed", "free_pages", "isolated_pages"),
    "waiting": ("zone", "free_pages", "floor_pages", "retry_ns"),
    "unseen-demand": ("zone", "taken_pages", "expected_pages"),
    EVENTS_LOST: ("events",),
}
"""Kinds that are understood here, and the whole numbers that each must have; other kinds pass."""
OPTIONAL = ("margin_pages", "cause")
"""Of a request: runs of before they were recorded do not have them."""

REORDERED_EVENTS = 4096
"""Events that wait for an earlier one of another worker: as many as a ring holds."""
LINE_CHARS_MAX = 1 << 16
"""An event has some 200; a longer line is none."""
FULL_BYTES = BYTES_MAX - LINE_CHARS_MAX
"""An `events.jsonl` of so many bytes is full."""
LINES_NOTED_MAX = 3
"""Bad lines that are named; the others are counted."""
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class RunEvent(NamedTuple):
    """An event: monotonic time, who recorded it, its kind and the rest of its line."""

    time_ns: int
    worker: int
    kind: str
    fields: dict[str, Any]


class EventReader:
    """The events of a run, by time; iterating again reads them again.

    After a whole pass `lost_events` and `notes` say what was missing. Raises InputError when a
    file cannot be read, or holds lines of which none is an event.
    """

    def __init__(self, record: RunRecord) -> None:
        self._files = record.event_files
        self._directory = record.directory
        self.lost_events = 0
        self.notes: tuple[str, ...] = ()
        self._bad: list[str] = []
        self._bad_lines = 0
        self._torn: list[str] = []

    def __iter__(self) -> Iterator[RunEvent]:
        self.lost_events = self._bad_lines = 0
        self._bad, self._torn = [], []
        waiting: list[tuple[int, int, RunEvent]] = []
        for number, event in enumerate(self._all()):
            if event.kind == EVENTS_LOST:
                self.lost_events += event.fields["events"]
            item = (event.time_ns, number, event)
            if len(waiting) < REORDERED_EVENTS:
                heapq.heappush(waiting, item)
            else:
                yield heapq.heappushpop(waiting, item)[2]
        while waiting:
            yield heapq.heappop(waiting)[2]
        self.notes = tuple(self._said())

    def _all(self) -> Iterator[RunEvent]:
        """The events as the files have them; of a later file what is not on record yet."""
        if len(self._files) == 1:
            yield from self._of_file(self._files[0])
            return
        last: dict[int, tuple[int, list[RunEvent]]] = {}
        for position, path in enumerate(self._files):
            known = {worker: (time_ns, list(same)) for worker, (time_ns, same) in last.items()}
            for event in self._of_file(path):
                time_ns, same = known.get(event.worker, (INT64_MIN, []))
                if position and (event.time_ns < time_ns or event in same):
                    continue
                time_ns, same = last.get(event.worker, (INT64_MIN, []))
                same = [*same, event] if event.time_ns == time_ns else [event]
                last[event.worker] = event.time_ns, same[-REORDERED_EVENTS:]
                yield event

    def _of_file(self, path: Path) -> Iterator[RunEvent]:
        name = str(EVIDENCE) if path == self._directory / EVIDENCE else EVENTS
        found = 0
        number = 0
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                for number, (line, whole) in enumerate(_lines(lines), 1):
                    event = _event_of(line) if whole else "the line is longer than any event's"
                    if isinstance(event, RunEvent):
                        found += 1
                        yield event
                    elif not line.endswith("\n") and whole:
                        self._torn.append(f"{name}:{number}: the last line is cut off: left out")
                    else:
                        self._bad_lines += 1
                        if len(self._bad) < LINES_NOTED_MAX:
                            self._bad.append(f"{name}:{number}: {event}: left out")
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
        if self._bad and not found and number > 1:
            raise InputError("holds no events: is it another file?", file=path, line=1)

    def _said(self) -> Iterator[str]:
        if not self._files:
            yield "there is no events.jsonl: nothing happened, or it was removed"
        if any(path.name == EVENTS and path.stat().st_size >= FULL_BYTES for path in self._files):
            yield "events.jsonl is full: what happened later is in the series and the summary only"
        yield from self._bad
        if self._bad_lines > len(self._bad):
            yield f"{self._bad_lines - len(self._bad):,} more lines are no events: left out"
        yield from self._torn
        if self.lost_events:
            yield (
                f"{self.lost_events:,} events were lost, because the run recorded faster than it "
                "wrote or went on for very long: what they would say is missing here"
            )


def _lines(file: Any) -> Iterator[tuple[str, bool]]:
    """Lines, and whether each is whole: of one that is too long only the beginning is kept."""
    while line := file.readline(LINE_CHARS_MAX):
        whole = line.endswith("\n") or len(line) < LINE_CHARS_MAX
        yield line, whole
        rest = line
        while not whole and rest and not rest.endswith("\n"):
            rest = file.readline(LINE_CHARS_MAX)


def _event_of(line: str) -> RunEvent | str:
    """The event of a line, or what is wrong with it."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(fields, dict):
        return "no object"
    time_ns, worker, kind = (fields.pop(key, None) for key in ("monotonic_ns", "worker", "kind"))
    if not _is_whole(time_ns) or not _is_whole(worker) or not isinstance(kind, str):
        return "no event"
    wrong = _wrong(fields, NEEDED.get(kind, ()))
    if wrong is None and "order" in fields and kind in NEEDED:
        known = [name for name in OPTIONAL if name in fields]
        wrong = _wrong(fields, known)
        if wrong is None and fields.get("cause", 0) not in range(3):
            wrong = "cause"
    return RunEvent(time_ns, worker, kind, fields) if wrong is None else f"no event: bad {wrong}"


def _wrong(fields: dict[str, Any], names: Sequence[str]) -> str | None:
    """The first field that is no whole number of 64 bits."""
    return next((name for name in names if not _is_whole(fields.get(name))), None)


def _is_whole(value: object) -> bool:
    return type(value) is int and INT64_MIN <= value <= INT64_MAX
