"""The index of all runs: a SQLite database beside their directories, so that a list needs to open
none of them.

The directories are the truth. An index that is missing, damaged or of another version is moved
aside and made again from them. When the disk refuses a write, the daemon goes on: what could not
be stored waits in memory and is tried again, and `waiting` says how much that is. An index that
cannot be opened at all is tried again, too; until then every answer comes from the directories.
"""

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import ValidationError

from pagesoak.daemon.record import Record, State, goes_on, read_record

FILE_NAME = "index.sqlite3"
VERSION = 1
"""Of the table; another one's index is made again."""
BUSY_SECONDS = 0.2
"""Somebody who reads the index with tools of his own may hold it up so long; it is tried again
each second, and the daemon answers nobody meanwhile.
"""
_TABLE = "CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, started TEXT, record TEXT)"


class ClosedError(sqlite3.Error):
    """There is no index at this moment."""


class Index:
    """The index below `results`; opened as soon as the disk lets it be, made where it is missing.
    `problem` says why it is not open.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._file = results / FILE_NAME
        self._waiting: dict[str, Record] = {}
        self._elsewhere: set[str] = set()
        """Runs that another process ran when they were last looked at."""
        self.moved_aside: Path | None = None
        self.problem: str | None = None
        self._opened_one: sqlite3.Connection | None = None
        self.open()

    @property
    def waiting(self) -> int:
        """Records that could not be stored so far."""
        return len(self._waiting)

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened_one is None:
            raise ClosedError
        return self._opened_one

    def open(self) -> bool:
        """Open it, if it is not; whether it is open."""
        if self._opened_one is not None:
            return True
        try:
            try:
                self._opened_one = self._opened()
            except sqlite3.OperationalError:  # not damaged: locked, or not to be written
                raise
            except sqlite3.DatabaseError:
                self._move_aside()
                self._opened_one = self._opened()
        except (sqlite3.Error, OSError) as error:
            self.problem = f"{self._file}: cannot be opened: {error}"
            return False
        self.problem = None
        return True

    def _opened(self) -> sqlite3.Connection:
        """The database, in order; DatabaseError when it is damaged or another version's."""
        connection = sqlite3.connect(
            self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self) -> None:
        number = 1
        while (aside := self._file.with_name(f"{FILE_NAME}.old-{number}")).exists():
            number += 1
        self._file.rename(aside)
        for rest in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._file.with_name(FILE_NAME + rest).unlink()
        self.moved_aside = aside

    def catch_up(self, going: Collection[str] = ()) -> list[Record]:
        """Bring the index up to date with the directories, but for those of runs that go on; the
        runs that are now found to have ended uncleanly.
        """
        if self._opened_one is None:
            return []
        known = {record.run: record for record in self.all()}
        found: list[Record] = []
        present = set()
        self._elsewhere.clear()
        for directory in self._directories():
            present.add(directory.name)
            if directory.name in going:
                continue
            before = known.get(directory.name)
            if before is not None and not before.going:
                continue
            record = read_record(directory)
            if record is not None and record.going:
                self._elsewhere.add(directory.name)
            if record is None or record == before:
                continue
            self.store(record)
            if record.state is State.UNCLEAN:
                found.append(record)
        for run in known.keys() - present - set(going):
            self.forget(run)
        return found

    def look_elsewhere(self, going: Collection[str] = ()) -> list[Record]:
        """Look again at the runs of other processes, but for names that this daemon's own runs
        have by now; those that have ended since, in order or not.
        """
        self._elsewhere.difference_update(going)
        ended = []
        for run in sorted(self._elsewhere):
            directory = self._results / run
            if goes_on(directory):
                continue
            record = read_record(directory)
            if record is not None and not record.going:
                self.store(record)
                ended.append(record)
            elif record is not None or not _is_gone(directory):
                continue  # it cannot be read at this moment
            else:
                self.forget(run)
            self._elsewhere.discard(run)
        return ended

    def _directories(self) -> Iterator[Path]:
        try:
            found = sorted(self._results.iterdir())
        except OSError:
            return
        for directory in found:
            if directory.is_dir() and not directory.is_symlink():
                yield directory

    def store(self, record: Record) -> bool:
        """Keep a record, after those that still wait; False when the disk refused it."""
        self._waiting[record.run] = record
        return self.retry()

    def retry(self) -> bool:
        """Try to store what waits; True when nothing waits any more."""
        if not self.open():
            return not self._waiting
        for run, record in list(self._waiting.items()):
            values = (run, record.started, record.model_dump_json())
            try:
                self._connection.execute("REPLACE INTO runs VALUES (?, ?, ?)", values)
            except sqlite3.Error:
                return False
            del self._waiting[run]
        return True

    def forget(self, run: str) -> None:
        """Take a run off the index: its directory is gone."""
        self._waiting.pop(run, None)
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("DELETE FROM runs WHERE run = ?", (run,))

    def get(self, run: str) -> Record | None:
        """The record of a run."""
        if run in self._waiting:
            return self._waiting[run]
        try:
            rows = self._connection.execute("SELECT record FROM runs WHERE run = ?", (run,))
            return next(_records(rows), None)
        except sqlite3.Error:
            return read_record(self._results / run)

    def all(self) -> list[Record]:
        """Every run, the newest first."""
        try:
            rows = self._connection.execute("SELECT record FROM runs")
            stored = {record.run: record for record in _records(rows)}
        except sqlite3.Error:
            found = (read_record(directory) for directory in self._directories())
            stored = {record.run: record for record in found if record is not None}
        stored |= self._waiting
        return sorted(stored.values(), key=lambda record: record.started or "", reverse=True)

    def close(self) -> None:
        """Try once more to store what waits; then close."""
        self.retry()
        if self._opened_one is not None:
            self._opened_one.close()


def _is_gone(directory: Path) -> bool:
    try:
        directory.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _set_up(connection: sqlite3.Connection) -> None:
    """Make the table where it is missing; DatabaseError when it is not one to go on with."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(_TABLE)
    if version not in {0, VERSION}:
        raise sqlite3.DatabaseError(f"version {version}")
    if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("damaged")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _records(rows: sqlite3.Cursor) -> Iterator[Record]:
    for (text,) in rows:
        with contextlib.suppress(ValidationError):
            yield Record.model_validate_json(text)
