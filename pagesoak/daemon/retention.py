"""Which runs are kept: results are removed when they are too old, or too large together.

Only what is a run of its own kind is ever removed: a real directory of this user's, directly below
the results, on the same file system throughout, with a scenario and an identity that can be read,
that no process works in. A link, a folder of somebody else's, a file: nothing of it is touched, or
counted. The oldest goes first. Links inside a run are removed, never followed.

Age goes by the machine's clock, which may be set wrong at any moment. So a clock that has gone
another way than the monotonic one by more than an hour since the daemon started removes nothing by
age.
"""

import os
import shutil
import stat
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pagesoak.daemon.record import Record, read_record
from pagesoak.engine.rundir import is_alive

CLOCK_STRAY_SECONDS_MAX = 3600.0
"""A clock that is stepped by more than this says nothing about a run's age."""
REMOVED_AT_ONCE_MAX = 100
"""In one go: the rest follows with the next, so that nothing else waits for long."""


class Kept(NamedTuple):
    """A run that has ended, as retention sees it."""

    run: str
    ended_at: float
    """Seconds since the epoch."""
    size_bytes: int


def to_remove(
    kept: Sequence[Kept], now: float | None, keep_seconds: float, keep_bytes: int, used_bytes: int
) -> list[str]:
    """The runs to remove, the oldest first. `now` None: nothing is removed for its age;
    `used_bytes` is what everything takes, runs that go on with it.
    """
    chosen = []
    left_bytes = used_bytes
    for each in sorted(kept, key=lambda run: (run.ended_at, run.run)):
        too_old = now is not None and now - each.ended_at > keep_seconds
        if too_old or left_bytes > keep_bytes:
            chosen.append(each.run)
            left_bytes -= each.size_bytes
    return chosen[:REMOVED_AT_ONCE_MAX]


def trusted_now(
    wall: float, monotonic: float, wall_before: float, monotonic_before: float
) -> float | None:
    """The time by the machine's clock; None when it has strayed since the time before."""
    stray_seconds = (wall - wall_before) - (monotonic - monotonic_before)
    return None if abs(stray_seconds) > CLOCK_STRAY_SECONDS_MAX else wall


def ended_at(record: Record, directory: Path) -> float:
    """When a run ended, as far as is known: what its summary says, or its last change."""
    try:
        return datetime.fromisoformat(record.finished or "").timestamp()
    except (ValueError, OverflowError):
        return directory.stat(follow_symlinks=False).st_mtime


def size_bytes(directory: Path, user: int) -> int | None:
    """What a run's directory takes on the disk; None when it is no directory that may be removed:
    a link, another user's, or with another file system mounted inside.
    """
    try:
        top = directory.stat(follow_symlinks=False)
        if not stat.S_ISDIR(top.st_mode) or top.st_uid != user:
            return None
        if top.st_dev != directory.parent.stat().st_dev:
            return None
        blocks = top.st_blocks
        for _, folders, files, descriptor in os.fwalk(directory, follow_symlinks=False):
            for name in (*folders, *files):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if found.st_dev != top.st_dev:
                    return None
                blocks += found.st_blocks
    except OSError:
        return None
    return blocks * BLOCK_BYTES


BLOCK_BYTES = 512
"""Of `st_blocks`, whatever the file system's own are."""


def remove(directory: Path) -> bool:
    """Remove a run that nobody works in; whether it is gone.

    `shutil.rmtree` goes down by descriptors, so nothing that is swapped for a link meanwhile leads
    it elsewhere.
    """
    if not shutil.rmtree.avoids_symlink_attacks or is_alive(directory):
        return False
    try:
        shutil.rmtree(directory)
    except OSError:
        return False
    return True


class Retention:
    """Sizes that were measured, and what was removed, in the daemon's life."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._sizes: dict[str, int | None] = {}
        self.used_bytes = 0
        """What runs take on the disk."""
        self.removed = 0

    def collect(
        self,
        records: Sequence[Record],
        busy: Collection[str],
        now: float | None,
        keep_seconds: float,
        keep_bytes: int,
    ) -> list[str]:
        """Remove what is too old or too much; the runs that are gone. `busy` ones are counted and
        stay.
        """
        kept = []
        used = 0
        user = os.geteuid()
        for record in records:
            directory = self._results / record.run
            going = record.going or record.run in busy
            if going or record.run not in self._sizes:
                self._sizes[record.run] = size_bytes(directory, user)
            size = self._sizes[record.run]
            if size is None:
                continue
            used += size
            if not going:
                try:
                    kept.append(Kept(record.run, ended_at(record, directory), size))
                except OSError:
                    self._sizes.pop(record.run)
        gone = [
            run
            for run in to_remove(kept, now, keep_seconds, keep_bytes, used)
            if read_record(self._results / run) is not None and remove(self._results / run)
        ]
        known = {record.run for record in records}.difference(gone)
        self.used_bytes = used - sum(self._sizes[run] or 0 for run in gone)
        self._sizes = {run: size for run, size in self._sizes.items() if run in known}
        self.removed += len(gone)
        return gone
