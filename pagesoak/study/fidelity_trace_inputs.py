"""What a workload recording holds besides its trace: exact snapshots, and the kernel's version.

Snapshots are read one by one: one that contradicts itself, or is cut off, is a fault with its
place, and the others stay usable.
"""

from collections.abc import Iterator
from pathlib import Path

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import FreeListReader, read_free_lists
from pagesoak.allocator.profile import Profile
from pagesoak.allocator.recording import (
    SERIES_NAMES,
    SNAPSHOT_NAMES,
    SNAPSHOT_SKEW_NS,
    TRACE_NAMES,
)
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile
from pagesoak.study.fidelity_result import Fault
from pagesoak.study.recording_meta import recorded_kernel

EXACT_SECTION = "--- truth_free"
"""Heads the exact lists in a series of snapshots."""


def find_trace(folder: Path) -> Path | None:
    """The trace of a recording, plain or gzip."""
    return next((folder / name for name in TRACE_NAMES if (folder / name).exists()), None)


def kernel_of(folder: Path, faults: list[Fault]) -> tuple[str, Profile | None]:
    """The version a recording names ("" for none) and its profile; None where it has none."""
    try:
        kernel = recorded_kernel(folder)
    except InputError as error:
        faults.append(Fault.of(error))
        return "", None
    return kernel.version, kernel.profile


class Snapshots:
    """The exact snapshots of a recording by their time; what cannot be read goes to `faults`."""

    def __init__(self, folder: Path, faults: list[Fault]) -> None:
        self._faults = faults
        found: list[FreeListSnapshot] = []
        for name in SERIES_NAMES:
            if (folder / name).exists():
                found += self._series(folder / name)
                break
        for name in SNAPSHOT_NAMES:
            if (folder / name).exists():
                try:
                    found.append(read_free_lists(folder / name))
                except InputError as error:
                    faults.append(Fault.of(error))
        self._snapshots = sorted(found, key=lambda snapshot: snapshot.t_ns)

    def __len__(self) -> int:
        return len(self._snapshots)

    def at(self, time_ns: int) -> FreeListSnapshot | None:
        """The snapshot of a truth_capture at this time; None when there is none."""
        for snapshot in self._snapshots:
            if time_ns <= snapshot.t_ns <= time_ns + SNAPSHOT_SKEW_NS:
                return snapshot
        return None

    def _series(self, path: Path) -> Iterator[FreeListSnapshot]:
        text = TextFile(path)
        reader: FreeListReader | None = None
        try:
            for number, line in text:
                if line.startswith(("=== ", "--- ")):
                    yield from self._finished(reader)
                    reader = FreeListReader(text.name) if line == EXACT_SECTION else None
                elif reader is not None:
                    reader = self._fed(reader, number, line)
        except InputError as error:
            self._faults.append(Fault.of(error))
            return
        yield from self._finished(reader)

    def _fed(self, reader: FreeListReader, number: int, line: str) -> FreeListReader | None:
        """The reader, unless the line was wrong: the rest of that snapshot is passed over."""
        try:
            reader.feed(number, line)
        except InputError as error:
            self._faults.append(Fault.of(error))
            return None
        return reader

    def _finished(self, reader: FreeListReader | None) -> Iterator[FreeListSnapshot]:
        if reader is None:
            return
        try:
            yield reader.finish()
        except InputError as error:
            self._faults.append(Fault.of(error))
