"""Checking the model against recordings of a real kernel: which folder is what, and who checks it.

The kind of a recording is told by the files inside, not by its name:

- *oom*: `per_run.csv`, a table of runs;
- *timeline*: `reports.csv` or `atload.free`, a stand-in reporting device on an idle guest;
- *trace*: page-allocator events with exact snapshots (`snaps.txt`), or a trace with such events;
- *balloon*: a trace of the reporting functions alone, or `reporting.csv`, of the real
  virtio-balloon.

A folder that is no recording but holds some, like `tests/recordings`, stands for all of them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.trace import read_trace
from pagesoak.base.errors import InputError
from pagesoak.study.fidelity_balloon import check_balloon
from pagesoak.study.fidelity_oom import check_oom
from pagesoak.study.fidelity_result import CheckResult, Fault, Result
from pagesoak.study.fidelity_timeline import check_timeline
from pagesoak.study.fidelity_trace import check_trace
from pagesoak.study.recording_meta import find_file

KIND_TRACE = "trace"
KIND_TIMELINE = "timeline"
KIND_BALLOON = "balloon"
KIND_OOM = "oom"
KIND_UNKNOWN = "unknown"

RECORDING_FILES = "per_run.csv, reports.csv, atload.free, snaps.txt, trace.txt, reporting.csv"
DEPTH_MAX = 4
"""Folders inside folders that are looked through for recordings: a checkout holds them 4 deep."""
_ALLOCATION_EVENTS = frozenset({kinds.MM_PAGE_ALLOC, kinds.MM_PAGE_FREE})
_REPORTING_EVENTS = frozenset({kinds.PROCESS, kinds.ISOLATE, kinds.REPORT})

Announce = Callable[[str], None]
"""Told what is being worked on, for whoever waits."""


def kind_of(folder: Path) -> str | None:
    """The kind of recording a folder holds; None when it holds none itself."""
    if find_file(folder, "per_run.csv"):
        return KIND_OOM
    if find_file(folder, "reports.csv", "atload.free"):
        return KIND_TIMELINE
    if find_file(folder, "snaps.txt"):
        return KIND_TRACE
    trace = find_file(folder, "trace.txt")
    if trace is not None:
        return _kind_of_trace(trace)
    if find_file(folder, "reporting.csv"):
        return KIND_BALLOON
    return KIND_UNKNOWN if find_file(folder, "run.json", "meta.txt", "meta.version") else None


def _kind_of_trace(trace: Path) -> str:
    """By the first event that belongs to one kind only."""
    seen = KIND_TRACE
    try:
        for event in read_trace(trace):
            if event.kind in _ALLOCATION_EVENTS:
                return KIND_TRACE
            if event.kind in _REPORTING_EVENTS:
                seen = KIND_BALLOON
    except InputError:
        return KIND_BALLOON if find_file(trace.parent, "reporting.csv") else seen
    return seen


def recordings_in(path: Path) -> list[Path]:
    """The recordings that a path stands for, ascending by name.

    Raises InputError when it is no folder, or holds no recording.
    """
    if not path.exists():
        raise InputError("no such folder", file=path)
    if not path.is_dir():
        raise InputError("is a file; a recording is a folder", file=path)
    found = list(_find(path, DEPTH_MAX))
    if not found:
        raise InputError(f"no recording: none of {RECORDING_FILES} in it or below", file=path)
    return found


def _find(folder: Path, depth: int) -> Iterator[Path]:
    if kind_of(folder) is not None:
        yield folder
        return
    if depth == 0:
        return
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as fault:
        raise InputError(f"cannot be read: {fault.strerror or fault}", file=folder) from None
    for name in names:
        yield from _find(folder / name, depth - 1)


_CHECKERS: dict[str, Callable[[Path], Result]] = {
    KIND_TRACE: check_trace,
    KIND_TIMELINE: check_timeline,
    KIND_BALLOON: check_balloon,
    KIND_OOM: check_oom,
}


def check_recording(folder: Path) -> Result:
    """Check one recording by its kind; a fault of the recording is in the result, not raised."""
    kind = kind_of(folder)
    checker = _CHECKERS.get(kind or "")
    if checker is None:
        fault = Fault(str(folder), f"no recording: none of {RECORDING_FILES} in it")
        return CheckResult(str(folder), kind or "", "", faults=(fault,))
    return checker(folder)


def check_recordings(paths: Iterable[Path], announce: Announce) -> list[Result]:
    """Check everything that some paths stand for, each recording once, in order.

    Raises InputError for a path that stands for nothing, before anything is checked.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        for folder in recordings_in(path):
            folders.setdefault(folder.resolve(), folder)
    results = []
    for number, folder in enumerate(folders.values(), start=1):
        announce(f"{number} of {len(folders)}: {folder}")
        results.append(check_recording(folder))
    return results
