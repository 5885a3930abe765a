"""How many log records of one name a process may write per second, and what it left out.

A record costs its writer about 50 microseconds, so a worker that logs in a loop would measure its
own logging, and fill a disk with it. Past the limit a record is dropped and counted, and the count
is reported when the second is over.
"""

from typing import Literal, NamedTuple

from pagesoak.base.units import NS_PER_SECOND

# At 50 us a record, 50 a second of one name cost a worker 0.25 % of its time; and 18 workers (16
# guests, reporter, host) at this rate, several names each, stay well below the 20 000 records a
# second that a receiver takes in.
RECORDS_PER_NAME_PER_SECOND = 50

# Names are literals in the code, a few dozen. A library that formats values into its messages
# makes up endless ones.
NAMES_MAX = 256
OTHER_NAMES = "(other)"

# A name is a key in memory and a field of the report: a long message is cut to this.
NAME_CHARS_MAX = 120

DropReason = Literal["rate", "backlog", "unprintable"]


class Drop(NamedTuple):
    """So many records of the name `of` were not written, because of `reason`."""

    of: str
    reason: DropReason
    records: int


class RateLimit:
    """Counts records per name in windows of one second of a clock that the caller reads."""

    def __init__(self, records_per_name_per_second: int = RECORDS_PER_NAME_PER_SECOND) -> None:
        self._limit = records_per_name_per_second
        self._window_began_ns: int | None = None
        self._seen: dict[str, int] = {}
        self._dropped: dict[tuple[str, DropReason], int] = {}
        self._due: dict[tuple[str, DropReason], int] = {}

    def admit(self, name: str, now_ns: int) -> bool:
        """Whether a record of this name may be written now; if not, it is counted as dropped."""
        self._roll(now_ns)
        key = self._key(name)
        seen = self._seen.get(key, 0) + 1
        self._seen[key] = seen
        if seen <= self._limit:
            return True
        self.count_drop(key, "rate")
        return False

    def count_drop(self, name: str, reason: DropReason, records: int = 1) -> None:
        """Count records that were not written, for a reason that may have been found elsewhere."""
        key = (name[:NAME_CHARS_MAX], reason)
        self._dropped[key] = self._dropped.get(key, 0) + records

    def take_due(self, now_ns: int) -> tuple[Drop, ...]:
        """The drops of the seconds that are over, handed out once."""
        if not self._dropped and not self._due:
            return ()
        self._roll(now_ns)
        return self._hand_out()

    def take_all(self) -> tuple[Drop, ...]:
        """Every drop so far, the running second's included, handed out once."""
        self._end_window()
        return self._hand_out()

    def _hand_out(self) -> tuple[Drop, ...]:
        due = tuple(Drop(of, reason, records) for (of, reason), records in self._due.items())
        self._due.clear()
        return due

    def _roll(self, now_ns: int) -> None:
        began = self._window_began_ns
        if began is None or now_ns - began >= NS_PER_SECOND:
            self._window_began_ns = now_ns
            self._end_window()

    def _end_window(self) -> None:
        self._seen.clear()
        for key, records in self._dropped.items():
            self._due[key] = self._due.get(key, 0) + records
        self._dropped.clear()

    def _key(self, name: str) -> str:
        key = name[:NAME_CHARS_MAX]
        return key if key in self._seen or len(self._seen) < NAMES_MAX else OTHER_NAMES
