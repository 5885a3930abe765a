"""Where the log lines of all workers of a run meet: one bounded file of JSON lines.

Every worker incarnation has a receiver thread of its own, and all of them end here; the library's
receiver calls `emit` without taking the handler's lock, so `emit` takes it itself. A disk that
refuses is counted (`run_files`), and the count is written into the file once it works again.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from pagesoak.base.units import MIB
from pagesoak.engine.logs_record import DROPPED_EVENT
from pagesoak.engine.run_files import AppendFile, AtCap

# About 40 000 records, more than anybody reads; with the one older file a run's log never exceeds
# 32 MiB, however long the run and however hard a worker floods.
WORKER_LOG_BYTES_MAX = 16 * MIB

LOST_EVENT = "log.lost"

OwnLine = Callable[..., str]


class LogSink(logging.Handler):
    """Writes finished lines to the file; `error_records` counts those of level error and above."""

    def __init__(
        self, path: Path, own_line: OwnLine, *, bytes_max: int = WORKER_LOG_BYTES_MAX
    ) -> None:
        super().__init__()
        self.error_records = 0
        self.dropped_records = 0
        """What workers say that they dropped: past a limit, or not to be printed."""
        self._own_line = own_line
        self._reported_lost_lines = 0
        self._file = AppendFile(path, bytes_max=bytes_max, at_cap=AtCap.ROTATE)

    @property
    def lost_lines(self) -> int:
        """Lines the disk refused, since the sink was made."""
        return self._file.lost_lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's message, which is a finished line."""
        self.write(record.getMessage(), record.levelno)

    def write(self, line: str, level: int) -> bool:
        """Write one line; False if the disk refused it. Never raises."""
        self.acquire()
        try:
            self.error_records += level >= logging.ERROR
            self.dropped_records += dropped_by(line)
            if not self._file.append(line):
                return False
            lost = self._file.lost_lines - self._reported_lost_lines
            if lost and self._file.append(self._own_line(LOST_EVENT, records=lost)):
                self._reported_lost_lines += lost
            return True
        finally:
            self.release()

    def close(self) -> None:
        """Give up the file."""
        self.acquire()
        try:
            self._file.close()
        finally:
            self.release()
        super().close()

    def abandon(self) -> None:
        """In a forked child: give up the inherited descriptor, without a lock, writing nothing."""
        self._file.abandon()


def dropped_by(line: str) -> int:
    """How many records a line says were dropped; 0 of any other line."""
    if DROPPED_EVENT not in line:
        return 0
    try:
        said = json.loads(line)
        return max(int(said["records"]), 0) if said["event"] == DROPPED_EVENT else 0
    except (ValueError, KeyError, TypeError):
        return 0


class IncarnationSink(logging.Handler):
    """One worker incarnation's way to the shared sink, which outlives it."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's message, which is a finished line."""
        self._sink.emit(record)
