"""The time series of a run, `series.csv`: one row per sample, bounded however long the run is.

When the file has `ROWS_MAX` rows, neighbours are merged two by two, and from then on a row stands
for twice as many samples. Merging loses time, not depth: a row keeps the *lowest* free pages and
margins and the *highest* isolated pages of its samples; everything else is as it was at its end.

All rows are in memory as well. What a disk refused is written from there as soon as the disk takes
it: the whole file anew, as at a merge, or, where there is no room for a second one beside it, what
is missing at its end.
"""

import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pagesoak.engine.run_files import AppendFile, AtCap, replace_file
from pagesoak.engine.run_sample import RunSample

# Nearly three hours of a sample a second before the first merge, and at most about 1 MB on disk:
# more points than a screen has columns, for a run of any length.
ROWS_MAX = 10_000

# Never met: the rows are bounded already, this bounds what a mistake in that could cost.
FILE_BYTES_MAX = 16 * 1024 * 1024

# Between two tries to make up for what the disk refused: soon enough for a reader.
RETRY_SECONDS = 1.0

# And so many times as long as a try took: a disk that is full refuses at once, but one with a
# little room takes part of the file each time. So no more than a twentieth of the time goes there.
RETRY_REST_TIMES = 20

Number = int | float


class Column(NamedTuple):
    """A column: its name in the header, where its value comes from, how two of them merge."""

    name: str
    value: Callable[[RunSample], Number]
    merge: Callable[[Number, Number], Number]


def _later(_first: Number, second: Number) -> Number:
    return second


# The first is the only one with a fraction: `_Rows` counts on it.
COLUMNS = (
    Column("elapsed_seconds", lambda s: round(s.elapsed_seconds, 3), _later),
    Column("free_pages", lambda s: s.free_pages, min),
    Column("min_margin_pages", lambda s: s.largest_zone.min_margin_pages, min),
    Column("low_margin_pages", lambda s: s.largest_zone.low_margin_pages, min),
    Column("isolated_pages", lambda s: s.isolated_pages, max),
    Column("isolated_pages_max", lambda s: s.isolated_pages_max, _later),
    Column("report_calls", lambda s: s.report_calls, _later),
    Column("reported_pages", lambda s: s.reported_pages, _later),
    Column("punched_bytes", lambda s: s.punched_bytes, _later),
    Column("alloc_requests", lambda s: s.alloc_requests, _later),
    Column("alloc_failures_isolated", lambda s: s.alloc_failures.isolated, _later),
    Column("alloc_failures_fragmented", lambda s: s.alloc_failures.fragmented, _later),
    Column("alloc_failures_exhausted", lambda s: s.alloc_failures.exhausted, _later),
    Column("fallbacks", lambda s: s.fallbacks, _later),
    Column("oom_events_isolated", lambda s: s.oom_events.isolated, _later),
    Column("oom_events_fragmented", lambda s: s.oom_events.fragmented, _later),
    Column("oom_events_exhausted", lambda s: s.oom_events.exhausted, _later),
)
HEADER = ",".join(column.name for column in COLUMNS)

Row = tuple[Number, ...]


def row_of(sample: RunSample) -> Row:
    """The values of a sample, in the order of `COLUMNS`."""
    return tuple(column.value(sample) for column in COLUMNS)


def merge_rows(first: Row, second: Row) -> Row:
    """One row for two that follow each other."""
    triples = zip(COLUMNS, first, second, strict=True)
    return tuple(column.merge(one, other) for column, one, other in triples)


def _line(row: Row) -> str:
    return ",".join(map(str, row))


class _Rows:
    """Rows in little memory, 8 bytes a value, all of it taken at once: a run of hours does not
    grow by its series, nor by the holes that a growing one leaves where it was.

    Whole numbers are exact up to 2**53.
    """

    def __init__(self, rows_max: int) -> None:
        self._values = array("d", bytes(8 * len(COLUMNS) * rows_max))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Row:
        at = number * len(COLUMNS)
        elapsed_seconds, *whole = self._values[at : at + len(COLUMNS)]
        return elapsed_seconds, *map(int, whole)

    def __iter__(self) -> Iterator[Row]:
        return map(self.__getitem__, range(len(self)))

    def append(self, row: Row) -> None:
        """Add one at the end."""
        at = self._count * len(COLUMNS)
        self._values[at : at + len(COLUMNS)] = array("d", row)
        self._count += 1

    def merge_pairs(self) -> None:
        """Make one of each two that follow each other; their number is even."""
        width = len(COLUMNS)
        self._count //= 2
        for pair in range(self._count):
            merged = merge_rows(self[2 * pair], self[2 * pair + 1])
            self._values[pair * width : (pair + 1) * width] = array("d", merged)


class Series:
    """Writes `series.csv`. A disk that refuses costs no row, unless it does so up to the end."""

    def __init__(
        self,
        path: Path,
        *,
        rows_max: int = ROWS_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._rows_max = rows_max - rows_max % 2  # neighbours are merged in pairs
        self._monotonic = monotonic
        self._rows = _Rows(self._rows_max)
        self._samples_per_row = 1
        self._open_row: Row | None = None
        self._open_samples = 0
        self._file = self._append_file()
        self._stored_lines = 0
        """How many of all lines, from the header on, are in the file."""
        self._refused = False
        """Whether the file lacks lines, because the disk refused some."""
        self._unmerged = False
        """Whether its rows are still those before the last merge."""
        self._retry_at = 0.0
        self._closed = False
        self.lost = 0
        """Rows that will never be in the file."""
        self._append_missing()

    @property
    def waiting(self) -> int:
        """Rows that wait for a disk that refuses; it is tried again now, if it is time."""
        if self._refused and not self._closed:
            self._store()
        return 0 if self._closed else self._missing_rows

    def add(self, sample: RunSample) -> None:
        """Take in a sample; its row is written when all samples it stands for are there."""
        row = row_of(sample)
        self._open_row = row if self._open_row is None else merge_rows(self._open_row, row)
        self._open_samples += 1
        if self._open_samples == self._samples_per_row:
            self._end_row()

    def close(self) -> None:
        """Write the row that was not complete yet, and what still waits; what the disk refuses now
        is lost. Give up the file.
        """
        if self._closed:
            return
        if self._open_row is not None:
            self._end_row()
        self._retry_at = 0.0
        self._store()
        self._closed = True
        self.lost = self._missing_rows
        self._file.close()

    def _end_row(self) -> None:
        row, self._open_row, self._open_samples = self._open_row, None, 0
        if row is None:
            return
        self._rows.append(row)
        self._store()
        if len(self._rows) >= self._rows_max:
            self._thin()

    def _thin(self) -> None:
        """Merge; where the disk refuses that, the old file stays, finer than it need be."""
        self._rows.merge_pairs()
        self._samples_per_row *= 2
        if self._stored_lines:
            self._stored_lines = 1 + (self._stored_lines - 1) // 2
        self._unmerged = True
        self._store()

    def _store(self) -> None:
        """Bring the file up to date, as far as the disk lets it, and it is time for a try."""
        due = self._monotonic() >= self._retry_at
        if due and (self._refused or self._unmerged) and self._write_anew():
            return
        if due or not self._refused:
            self._append_missing()

    def _write_anew(self) -> bool:
        """The whole file, from the rows in memory; False when the disk refuses."""
        lines = 1 + len(self._rows)
        began = self._monotonic()
        try:
            # Line by line, so that a full disk refuses before all of them are made.
            replace_file(self._path, (f"{self._line(number)}\n" for number in range(lines)))
        except OSError:
            now = self._monotonic()
            self._retry_at = now + max(RETRY_SECONDS, RETRY_REST_TIMES * (now - began))
            return False
        self._file.abandon()
        self._file = self._append_file()
        self._stored_lines = lines
        self._refused = self._unmerged = False
        return True

    def _append_missing(self) -> None:
        """What the file lacks, in order, until the disk refuses."""
        while self._stored_lines <= len(self._rows):
            if not self._file.append(self._line(self._stored_lines)):
                self._refused = True
                self._retry_at = max(self._retry_at, self._monotonic() + RETRY_SECONDS)
                return
            self._stored_lines += 1
        self._refused = False

    def _line(self, number: int) -> str:
        return _line(self._rows[number - 1]) if number else HEADER

    @property
    def _missing_rows(self) -> int:
        return len(self._rows) - max(0, self._stored_lines - 1)

    def _append_file(self) -> AppendFile:
        return AppendFile(self._path, bytes_max=FILE_BYTES_MAX, at_cap=AtCap.REFUSE)
