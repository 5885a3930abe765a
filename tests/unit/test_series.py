"""The series of a run on a disk that refuses: nothing is missing once it takes it again, and what
it never took is counted.
"""

import csv
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagesoak.engine import run_files, series
from pagesoak.engine.line import Unstored
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.series import RETRY_SECONDS, Series
from tests.unit.test_rundir import STARTED, file_size_limit, sample, tree

LINES_BYTES = 1_000
"""Room for the header and some rows."""


class Clock:
    """A clock that a test sets."""

    seconds = 1_000.0

    def time(self) -> float:
        """What it shows."""
        return self.seconds


def times(path: Path) -> list[float]:
    """Of the rows in the file."""
    with path.open(newline="") as file:
        return [float(row["elapsed_seconds"]) for row in csv.DictReader(file)]


def add(to: Series, first: int, last: int) -> None:
    for second in range(first, last + 1):
        to.add(sample(second))


@pytest.mark.parametrize("room_bytes", [0, 10, LINES_BYTES])
def test_what_a_full_disk_refused_is_written_as_soon_as_it_takes_it(
    tmp_path: Path, room_bytes: int
) -> None:
    clock, path = Clock(), tmp_path / "series.csv"
    written = Series(path, monotonic=clock.time)
    with file_size_limit(room_bytes):
        add(written, 1, 50)
        there = times(path)
        assert written.waiting == 50 - len(there) > 0
    clock.seconds += RETRY_SECONDS
    add(written, 51, 51)
    assert times(path) == [float(second) for second in range(1, 52)]
    assert written.waiting == 0
    add(written, 52, 52)  # and from then on each at once
    assert times(path)[-1] == 52.0
    written.close()
    assert (written.waiting, written.lost) == (0, 0)
    assert tree(tmp_path) == ["series.csv"]


def test_asking_what_waits_tries_again(tmp_path: Path) -> None:
    """A run that stands still has no rows, but says how it is."""
    clock, path = Clock(), tmp_path / "series.csv"
    written = Series(path, monotonic=clock.time)
    with file_size_limit(LINES_BYTES):
        add(written, 1, 50)
    assert written.waiting > 0
    clock.seconds += RETRY_SECONDS
    assert written.waiting == 0
    assert len(times(path)) == 50
    written.close()


def test_the_end_is_the_last_try(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    written = Series(path, monotonic=Clock().time)
    with file_size_limit(LINES_BYTES):
        add(written, 1, 50)
    written.close()
    assert times(path) == [float(second) for second in range(1, 51)]
    assert written.lost == 0


def test_rows_that_the_disk_never_took_are_lost_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    written = Series(path)
    with file_size_limit(LINES_BYTES):
        add(written, 1, 50)
        assert written.lost == 0
        written.close()
        written.close()
    there = len(times(path))
    assert 0 < there < 50
    assert (written.waiting, written.lost) == (0, 50 - there)


def no_room_for_a_second_one(_path: Path, _text: object) -> None:
    raise OSError(errno.ENOSPC, "no room")


def test_where_there_is_no_room_for_a_second_file_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = Clock(), tmp_path / "series.csv"
    written = Series(path, monotonic=clock.time)
    with file_size_limit(LINES_BYTES):
        add(written, 1, 50)
    monkeypatch.setattr(series, "replace_file", no_room_for_a_second_one)
    clock.seconds += RETRY_SECONDS
    add(written, 51, 52)
    assert times(path) == [float(second) for second in range(1, 53)]
    assert written.waiting == 0
    written.close()
    assert written.lost == 0


def test_a_merge_that_the_disk_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = Clock(), tmp_path / "series.csv"
    written = Series(path, rows_max=8, monotonic=clock.time)
    with monkeypatch.context() as full:
        full.setattr(series, "replace_file", no_room_for_a_second_one)
        add(written, 1, 8)
        assert times(path) == [float(second) for second in range(1, 9)]
        clock.seconds += RETRY_SECONDS
        add(written, 9, 10)
        assert times(path) == [*map(float, range(1, 9)), 10.0]
    clock.seconds += RETRY_SECONDS
    add(written, 11, 12)
    assert times(path) == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    written.close()
    assert written.lost == 0


def test_rows_that_waited_over_a_merge_are_written_merged(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "series.csv"
    written = Series(path, rows_max=8, monotonic=clock.time)
    with file_size_limit(500):
        add(written, 1, 10)
        assert written.waiting > 0
    clock.seconds += RETRY_SECONDS
    add(written, 11, 12)
    assert times(path) == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    written.close()
    assert written.lost == 0


def tries(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> list[int]:
    """Counts, in its only element, how often the whole file is tried to be written."""
    count = [0]

    def counted(path: Path, text: object) -> None:
        count[0] += 1
        then()
        no_room_for_a_second_one(path, text)

    monkeypatch.setattr(series, "replace_file", counted)
    return count


def test_a_disk_that_stays_full_is_tried_no_more_than_each_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    written = Series(tmp_path / "series.csv", monotonic=clock.time)
    tried = tries(monkeypatch)
    with file_size_limit(LINES_BYTES):
        for second in range(1, 201):
            clock.seconds += RETRY_SECONDS / 10
            written.add(sample(second))
            assert written.waiting >= 0
    assert 10 <= tried[0] <= 20


def test_tries_that_take_long_are_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def half_a_second() -> None:
        clock.seconds += 0.5

    written = Series(tmp_path / "series.csv", monotonic=clock.time)
    tried = tries(monkeypatch, half_a_second)
    with file_size_limit(LINES_BYTES):
        for second in range(1, 101):
            clock.seconds += 1.0
            written.add(sample(second))
    assert 5 <= tried[0] <= 10


def test_a_full_disk_refuses_before_all_lines_are_made(tmp_path: Path) -> None:
    made = 0

    def lines() -> Iterator[str]:
        nonlocal made
        for made in range(10_000):  # noqa: B007 - counted
            yield "x" * 99 + "\n"

    with file_size_limit(LINES_BYTES), pytest.raises(OSError, match="File too large"):
        run_files.replace_file(tmp_path / "f", lines())
    assert made < 1_000
    assert tree(tmp_path) == []


def test_a_run_counts_rows_with_its_events(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, started=STARTED, scenario="s", policy="off", seed=1)
    assert directory.unstored == Unstored(0, 0)
    with file_size_limit(LINES_BYTES):
        for second in range(1, 51):
            directory.write_sample(sample(second))
            directory.write_event(second, 0, "x" * 100, {})
        waiting = directory.unstored
        rows = 50 - len(times(directory.path / "series.csv"))
        events = directory.events_waiting
        assert rows > 0
        assert events > 0
        assert waiting == Unstored(rows + events, 0)
        directory.close()
    assert directory.unstored == Unstored(0, rows + events)
