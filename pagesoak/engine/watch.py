"""The watch over a running soak: events written down, invariants looked at, the state audited.

It reads counters and flight recorders without a lock; only the audit takes the guest's locks, for
the time of a memory copy, each second or rarer, and never for more than a thousandth of the time.
Where the workers stand still while it looks (a virtual run), it takes no lock and no time.
"""

import time
from collections.abc import Callable

import structlog

from pagesoak.allocator.audit import audit
from pagesoak.allocator.audit_copy import (
    CopyRefused,
    StateCopy,
    audit_interval_ns,
    copy_state,
    copy_unlocked,
)
from pagesoak.allocator.census import ZoneCensus, census
from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.errors import HarnessError
from pagesoak.base.recorder import Event, read_events
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import publish_all, read_all_counters
from pagesoak.engine.event_log import EVENTS_LOST
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.summary import NANOSECONDS_PER_SECOND, Audits

BREACHES_NAMED_MAX = 5
"""Of an audit's breaches in a message; the evidence has the state itself."""


class LedgerBreachError(HarnessError):
    """The host has counted a range that was not isolated; it is about to end, and says which."""


class ZoneDeadError(HarnessError):
    """Whoever held a zone's lock is no more; that may be known before the death itself is seen."""


class Watch:
    """Looks at one run; every look raises `HarnessError` when an invariant is broken.

    `alone`: the workers stand still meanwhile. `clock_ns` is the clock of the run's events.
    """

    def __init__(
        self,
        segment: Segment,
        directory: RunDirectory,
        audit_every_ns: int,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        alone: bool = False,
    ) -> None:
        self._segment = segment
        self._directory = directory
        self._wanted_ns = audit_every_ns
        self._ring_heads = [0] * segment.plan.workers
        self._first_page = ""
        self._copy = copy_unlocked(segment)
        self._clock_ns = clock_ns
        self._alone = alone
        hold_ns = 0 if alone else self._rehearsed_ns()
        self._interval_ns = audit_interval_ns(hold_ns, audit_every_ns)
        self._due_ns = clock_ns() + self._interval_ns
        self._log = structlog.get_logger()
        self.counts_pages = False
        """Whether each audit's copy is counted, too (`census`)."""
        self.census: tuple[ZoneCensus, ...] = ()
        self.census_ns = 0
        """Of the last one that was in order, and when that was."""
        self.audits = Audits(0, 0, self._interval_ns / NANOSECONDS_PER_SECOND, 0.0)

    def _rehearsed_ns(self) -> int:
        """How long a copy takes into memory that is there: what the first audit will hold the
        locks for.
        """
        began_ns = time.monotonic_ns()
        copy_unlocked(self._segment, self._copy)
        return time.monotonic_ns() - began_ns

    def look(self) -> None:
        """Write down what happened since the last look, and check what has been counted."""
        if self._alone:
            publish_all(self._segment)
        self.note_events()
        counters = read_all_counters(self._segment)
        violations, breaches = counters[st.VIOLATIONS], counters[st.LEDGER_BREACHES]
        if violations or breaches:
            msg = (
                f"{violations} pages did not hold what they must{self._first_page}, "
                f"{breaches} reported ranges were not isolated in their request"
            )
            raise LedgerBreachError(msg) if breaches else HarnessError(msg)
        for zone in range(self._segment.plan.zones):
            if self._segment.zones[zone * layout.ZONE_WORDS + layout.Z_DEAD]:
                raise ZoneDeadError(f"zone {zone} is dead: a worker died holding its lock")

    def note_events(self) -> None:
        """Write the new events of all flight recorders to the run's directory, by time; where a
        recorder had more than it keeps, how many were lost.
        """
        found: list[Event] = []
        for worker, head in enumerate(self._ring_heads):
            events, self._ring_heads[worker] = read_events(self._segment, worker, head)
            lost = self._ring_heads[worker] - head - len(events)
            if lost:
                since_ns = events[0].time_ns if events else self._clock_ns()
                found.append(Event(since_ns, worker, EVENTS_LOST, {"events": lost}))
            found += events
        for event in sorted(found, key=lambda event: (event.time_ns, event.worker)):
            self._directory.write_event(event.time_ns, event.worker, event.name, event.fields)
            if event.name == "violation" and not self._first_page:
                self._first_page = " (the first: {pfn:#x} of owner {owner})".format(**event.fields)

    def audit_if_due(self) -> None:
        """Audit the state when it is time; put off when a lock cannot be had."""
        if self._clock_ns() < self._due_ns:
            return
        if self._alone:
            self._due_ns = self._clock_ns() + self._interval_ns
            self._judge(copy_unlocked(self._segment, self._copy))
            return
        copied = copy_state(self._segment, self._segment.plan.cpus + 2, self._copy)
        if isinstance(copied, CopyRefused):
            self._due_ns = self._clock_ns() + self._interval_ns
            self._log.warning("audit.put_off", reason=copied.reason)
            return
        self._copy = copied
        self._interval_ns = audit_interval_ns(copied.hold_ns, self._wanted_ns)
        self._due_ns = self._clock_ns() + self._interval_ns
        self._judge(copied)

    def audit_at_end(self) -> None:
        """Audit the state once more when no worker is left, and that nothing stayed isolated."""
        self._judge(copy_unlocked(self._segment, self._copy))
        for zone in range(self._segment.plan.zones):
            isolated = self._segment.zones[zone * layout.ZONE_WORDS + layout.Z_ISOLATED]
            if isolated:
                raise HarnessError(
                    f"{isolated} pages of zone {zone} are isolated after the last pass"
                )

    def note_failed_audit(self) -> None:
        """Somebody else has audited the state, after a recovery, and found a breach."""
        self.audits = self.audits._replace(run=self.audits.run + 1, failed=self.audits.failed + 1)

    def _judge(self, copied: StateCopy) -> None:
        result = audit(copied)
        if self.counts_pages and not result.breaches:
            self.census, self.census_ns = census(copied), self._clock_ns()
        self.audits = Audits(
            self.audits.run + 1,
            self.audits.failed + bool(result.breaches),
            self._interval_ns / NANOSECONDS_PER_SECOND,
            max(self.audits.hold_seconds_max, copied.hold_ns / NANOSECONDS_PER_SECOND),
        )
        if result.breaches:
            named = result.breaches[:BREACHES_NAMED_MAX]
            text = "; ".join(f"{breach.check}: {breach.message}" for breach in named)
            raise HarnessError(f"audit found {len(result.breaches)} breaches: {text}")
