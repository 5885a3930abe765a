"""The course of a run, from its workers' first step to their last, whichever driver they have.

`LiveCourse` looks on while processes live; `engine.virtual_course` drives the workers itself. What
comes before and after is the runner's, and the same for both.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from pagesoak.base import layout
from pagesoak.base.errors import HarnessError
from pagesoak.base.faults import FaultWanted
from pagesoak.base.tidy_memory import tidy_memory
from pagesoak.engine.crew import Crew
from pagesoak.engine.faults import Injector
from pagesoak.engine.prepare import Soak
from pagesoak.engine.progress import Progress
from pagesoak.engine.recovery import Recovery
from pagesoak.engine.recovery_figures import RecoveryFigures
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.sample import Sampler
from pagesoak.engine.soak_clock import elapsed_ns
from pagesoak.engine.steering import Steering
from pagesoak.engine.summary import NANOSECONDS_PER_SECOND
from pagesoak.engine.watch import LedgerBreachError, Watch, ZoneDeadError

TICK_SECONDS = 0.1
"""Between two looks of the runner: the flight recorder holds far more than a tick's events."""
SERIES_NS = 500_000_000
"""Between two lines of the series."""
TIDY_NS = 60_000_000_000
"""Between two full collections, which also give back what the interpreter keeps of each kind of
tuple for later: thousands, in a run of hours. What was there before the workers is frozen, so
that one takes a millisecond.
"""
PREPARE_SECONDS_MAX = 600.0
"""A guest that is not in its starting state after ten minutes never will be (64 GiB of touched
pages take two).
"""
PREPARE_LOOK_SECONDS = 0.005
"""Between two looks at whether the guest is in its starting state."""


class Course(Protocol):
    """What the runner needs of a course."""

    watch: Watch
    duration_ns: int
    """How long the soak has gone on, on its own clock."""
    interrupted: bool
    recoveries: RecoveryFigures

    @property
    def changes(self) -> int:
        """How often somebody has set something meanwhile."""

    def work(self) -> None:
        """The workers' life: the guest's starting state, the soak, the end; none is left.

        Raises HarnessError when an invariant is broken, InputError when the scenario asks for what
        cannot be done.
        """

    def now_ns(self) -> int:
        """The time now on the clock of the run's events."""


class LiveCourse:
    """A crew of processes, and a runner that looks on."""

    def __init__(
        self,
        soak: Soak,
        directory: RunDirectory,
        crew: Crew,
        stopping: Callable[[], bool],
        progress: Progress | None,
        steering: Steering | None = None,
        faults: Callable[[], list[FaultWanted]] | None = None,
    ) -> None:
        self.duration_ns = 0
        self.interrupted = False
        self.watch = Watch(soak.segment, directory, soak.scenario.audit.interval_ns)
        self._recovery = Recovery(soak, crew, directory, self.watch.note_failed_audit)
        self._faults = Injector(soak, crew, self._recovery, faults)
        self.recoveries = self._recovery.figures
        self._soak = soak
        self._directory = directory
        self._crew = crew
        self._stopping = stopping
        self._progress = progress
        self._steering = steering
        self._census_told_ns = 0

    def news(self) -> dict[str, Any]:
        """What the daemon is told with each sign of life: audits, dropped log records, recoveries,
        and where the pages are, if that was counted anew.
        """
        found: dict[str, Any] = {
            "audits": self.watch.audits._asdict(),
            "log_records_dropped": self._crew.log_records_dropped,
            "restarts": dict(self.recoveries.restarts),
            "faults": dict(self.recoveries.faults),
            "epochs": self.recoveries.epochs,
            "recoveries": self.recoveries.lengths.count,
            "lost_pages": self.recoveries.lost_pages,
        }
        if self.watch.census_ns != self._census_told_ns:
            self._census_told_ns = found["census_ns"] = self.watch.census_ns
            found["census"] = [zone._asdict() for zone in self.watch.census]
        return found

    @property
    def changes(self) -> int:
        """See `Course`."""
        return 0 if self._steering is None else self._steering.changes

    def now_ns(self) -> int:
        """The monotonic clock's time."""
        return time.monotonic_ns()

    def work(self) -> None:
        """See `Course`."""
        crew = self._crew
        try:
            if self._await_prepared():
                self._look_on()
                self._recovery.end()
            self.interrupted = self._stopping()
            if self._steering is not None:
                self._steering.end()
            crew.end()
            crew.check()
        except LedgerBreachError as error:
            crew.await_host_death(str(error))
            raise
        except ZoneDeadError as error:
            crew.await_death(str(error))
            raise
        except HarnessError:
            crew.check()  # a worker that died says more than what it left behind
            raise
        finally:
            crew.close()

    def _await_prepared(self) -> bool:
        """Start the soak's clock when every CPU is in its starting state; False when a signal came
        first.
        """
        header = self._soak.segment.header
        first = layout.H_PREPARED_FIRST
        deadline = time.monotonic() + PREPARE_SECONDS_MAX
        while not self._stopping():
            if all(header[first : first + self._soak.segment.plan.cpus]):
                header[layout.H_STARTED_AT_NS] = time.monotonic_ns()
                return True
            self._crew.check()
            self.watch.look()
            if time.monotonic() > deadline:
                msg = f"the guest is not in its starting state after {PREPARE_SECONDS_MAX:.0f} s"
                raise HarnessError(msg)
            time.sleep(PREPARE_LOOK_SECONDS)
        return False

    def _look_on(self) -> None:
        """Look on until the soak's time is over, or a signal comes."""
        scenario = self._soak.scenario
        header = self._soak.segment.header
        title = f"{scenario.name}, {scenario.reporting.policy}"
        sampler = Sampler(self._soak.segment, title, scenario.duration_ns)
        series_due_ns = 0
        tidy_due_ns = TIDY_NS
        if self._progress is not None:
            self._progress.start()
        try:
            while not self._stopping():
                if self._steering is not None:
                    self._steering.heed()
                now_ns = elapsed_ns(header, time.monotonic_ns()) or 0
                self.duration_ns = min(now_ns, scenario.duration_ns)
                left_ns = scenario.duration_ns - now_ns
                if left_ns <= 0:
                    break
                self._faults.look()
                self._recovery.look()
                self._crew.check(killed_too=False)
                with suppress(ZoneDeadError):  # it died just now: the next look sees to it
                    self.watch.look()
                self.watch.audit_if_due()
                sample = sampler.take(elapsed_ns(header, time.monotonic_ns()) or 0)
                if self._progress is not None:
                    self._progress.update(sample)
                if now_ns >= series_due_ns:
                    self._directory.write_sample(sample)
                    series_due_ns += SERIES_NS
                if now_ns >= tidy_due_ns:
                    tidy_memory()
                    tidy_due_ns = now_ns + TIDY_NS
                self._rest(min(TICK_SECONDS, left_ns / NANOSECONDS_PER_SECOND))
        finally:
            self._faults.end()
            if self._progress is not None:
                self._progress.stop()

    def _rest(self, seconds: float) -> None:
        """Until the next look; a worker's end, and faults that are due, are seen to at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            soon = self._faults.look_seconds
            self._crew.wait(left if soon is None else min(left, soon))
            self._faults.look()
            if self._recovery.look():
                return
