"""A driver for the reporter in tests: synchronous, the host and the window in the test's hands.

It runs the real worker (`pagesoak.reporter.worker`). After every step it asserts what must hold
then. Time is the segment's own clock, but a sleep is over at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pagesoak.base import layout
from pagesoak.base.timer_wheel import TickClock, timer_fires_ns
from pagesoak.base.wants import AwaitPass, AwaitRecovery, Now, Report, Run, Sleep, Want, YieldPoint
from pagesoak.reporter.passes import DELAY_NS, ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policy import Policy
from pagesoak.reporter.worker import Changes, no_changes, reporter_worker
from tests.zone_helper import REPORTER, Block, Guest

STEPS_MAX = 100_000
"""No test needs as many: a worker that runs on for ever is stopped here."""
PASSES_MAX = 1000


@dataclass
class Call:
    """One report call: its pass, entries in scatterlist order, and the zone in the window."""

    number: int
    pass_number: int
    zone: int
    request: int
    entries: list[Block]
    free_pages: int
    in_visit: bool = True
    """False: a leftover, drained in a hold of its own."""

    @property
    def pfns(self) -> list[int]:
        """First pages in scatterlist order."""
        return [pfn for pfn, _ in self.entries]


def no_error(_call: Call) -> int:
    """A host that serves every request."""
    return 0


@dataclass
class Driver:
    """Runs the reporter; `answer` is asked in each window, `at_point` at each yield point."""

    guest: Guest
    policy: Policy = field(default_factory=Mainline)
    settings: ReporterSettings | None = None
    changes: Changes = no_changes
    answer: Callable[[Call], int] = no_error
    at_point: Callable[[str], None] | None = None
    until_ns: int = 0
    """Deadline of each call of the core; 0 has come at once."""
    thorough: bool = True
    """Walk all lists after every step and all page records at the end; else lists at the end."""
    calls: list[Call] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    """The state at the end of each pass."""
    sleeps: list[int] = field(default_factory=list)
    """Deadlines slept to."""
    causes: list[int] = field(default_factory=list)
    """When each of those passes was requested."""
    steps: list[str] = field(default_factory=list)

    ended: bool = False
    """The worker has returned."""

    def __post_init__(self) -> None:
        settings = self.settings or ReporterSettings(len(self.guest.plans))
        self._hz = settings.hz
        self._worker = reporter_worker(
            self.guest.base, REPORTER, self.policy, settings, self.changes
        )
        self._waiting: AwaitPass | AwaitRecovery | Sleep | None = None

    def run(self, passes: int = PASSES_MAX) -> "Driver":
        """Drive until the reporter waits idle or for a recovery, ends by itself, or has made so
        many passes in all.

        May be called again: the reporter goes on where it was.
        """
        answer: Any = None if self._waiting is None else self._step(self._waiting)
        self._waiting = None
        for _ in range(STEPS_MAX):
            try:
                want = self._worker.send(answer)
            except StopIteration:
                self.ended = True
                break
            idle = isinstance(want, AwaitPass | AwaitRecovery)
            if idle or (isinstance(want, Sleep) and len(self.states) >= passes):
                self._waiting = want
                break
            answer = self._step(want)
        else:
            raise AssertionError("the reporter does not come to an end")
        self.guest.check()
        if self.thorough:
            self.guest.check_page_records()
        return self

    def entries_by_pass(self) -> list[list[int]]:
        """Number of entries of each call, pass by pass."""
        passes: list[list[int]] = [[] for _ in self.states]
        for call in self.calls:
            passes[call.pass_number].append(len(call.entries))
        return passes

    def _step(self, want: Want) -> Any:
        self.steps.append(want.name if isinstance(want, Run) else type(want).__name__)
        match want:
            case Run():
                return self._run(want)
            case Sleep():
                return self._sleep(want)
            case Report():
                return self._report(want)
            case YieldPoint():
                if self.at_point is not None:
                    self.at_point(want.name)
                return None
            case AwaitPass() | Now():
                return 0
            case AwaitRecovery():
                return None
        raise AssertionError(want)

    def _run(self, want: Run) -> Any:
        report = self.guest.report
        if want.name in {"begin-pass", "open-zone", "end-pass"}:
            assert self.guest.isolated_pages() == 0
        result = want.function(self.guest.base, *want.arguments, self.until_ns)
        if want.name == "reporting-hold":
            self._check_floor(want.arguments[1])
        elif want.name == "drain-report":
            self.calls[-1].in_visit = False
        elif want.name == "end-pass":
            assert result == report[layout.R_STATE]
            self.states.append(result)
        if self.thorough:
            self.guest.check()
        return result

    def _check_floor(self, zone: int) -> None:
        """Right after an isolation free memory is above the raw min."""
        if self.guest.isolated_pages():
            assert self.guest.free_pages(zone) > self.guest.plans[zone].min_pages

    def _sleep(self, want: Sleep) -> int:
        report = self.guest.report
        assert report[layout.R_STATE] == layout.REQUESTED
        cause_ns, delay_ns = report[layout.R_REQUESTED_AT_NS], report[layout.R_DELAY_NS]
        assert want.deadline_ns == timer_fires_ns(TickClock(self._hz), cause_ns, delay_ns)
        self.causes.append(cause_ns)
        self.sleeps.append(want.deadline_ns)
        return want.deadline_ns

    def _report(self, want: Report) -> int:
        report = self.guest.report
        assert want.request == report[layout.R_REQUEST] > 0
        assert (want.start, want.entries) == (report[layout.R_START], report[layout.R_COUNT])
        entries = self.guest.entries(want.start)
        assert len(entries) == want.entries
        zone = report[layout.R_ZONE]
        free = self.guest.free_pages(zone)
        call = Call(len(self.calls), len(self.states), zone, want.request, entries, free)
        self.calls.append(call)
        error = self.answer(call)
        if self.thorough:
            self.guest.check()
        return error


__all__ = ["DELAY_NS", "Call", "Driver", "no_error"]
