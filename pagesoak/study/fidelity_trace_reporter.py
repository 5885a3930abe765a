"""The reporter of a trace check: pagesoak's own worker, told by the trace only when.

The trace says when the delayed work begins, when a report call begins and when it returns, and
with what error. Which blocks are isolated, in which order, how many calls there are and where the
blocks go back is what the worker does with the model's lists.
"""

from typing import NamedTuple

from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    E_ORDER,
    E_PFN,
    ENTRY_WORDS,
    IDLE,
    R_ENTRIES,
    R_STATE,
    REPORTING_CAPACITY,
    REQUESTED,
)
from pagesoak.base.segment import Segment
from pagesoak.base.wants import AwaitPass, Report, Run, Sleep, Want, YieldPoint
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.worker import reporter_worker

Entries = list[tuple[int, int]]
"""(pfn, order), in the order of their isolation."""
REPORTER = 1
"""Its worker number: one CPU, then the reporter."""


class TraceReporter:
    """The worker between two points at which it waits: for a pass, or for a report's return."""

    def __init__(self, segment: Segment, order: int) -> None:
        self._segment = segment
        settings = ReporterSettings(segment.plan.zones, order=order)
        self._worker = reporter_worker(segment.base, REPORTER, Mainline(), settings)
        self._waiting: Want = next(self._worker)
        self._run(None)

    @property
    def reporting(self) -> bool:
        """Whether it waits for the return of a report."""
        return isinstance(self._waiting, Report)

    def begin_pass(self) -> None:
        """The delayed work runs now, whether or not the model had asked for it."""
        report = self._segment.report
        if report[R_STATE] == IDLE:
            report[R_STATE] = REQUESTED
        if isinstance(self._waiting, AwaitPass):
            self._waiting = self._worker.send(0)
        if not isinstance(self._waiting, Sleep):
            raise HarnessError("a pass of the reporter begins inside another")
        self._run(self._waiting.deadline_ns)

    def answer(self, error: int) -> None:
        """The report call has returned."""
        if self.reporting:
            self._run(error)

    def entries(self) -> Entries:
        """What is isolated for the report it waits for."""
        want = self._waiting
        if not isinstance(want, Report):
            return []
        report = self._segment.report
        found = []
        for index in range(REPORTING_CAPACITY - 1, want.start - 1, -1):
            at = R_ENTRIES + index * ENTRY_WORDS
            found.append((int(report[at + E_PFN]), int(report[at + E_ORDER])))
        return found

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _run(self, answer: int | None) -> None:
        """Let the worker go on until it waits."""
        want = self._waiting
        if answer is not None:
            want = self._worker.send(answer)
        while True:
            if isinstance(want, Run):
                want = self._worker.send(want.function(self._segment.base, *want.arguments, 0))
            elif isinstance(want, YieldPoint):
                want = self._worker.send(None)
            else:
                break
        self._waiting = want


class Calls(NamedTuple):
    """Report calls that were predicted entry by entry, of all in the trace."""

    exact: int
    total: int
