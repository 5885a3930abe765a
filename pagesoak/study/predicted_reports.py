"""What reporting would do on an idle guest: every report call of every pass, from its free lists.

The core is filled with a snapshot of the lists, and pagesoak's own reporter worker runs on it, as
it does in a run; only time and the host are missing. A sleep is over at once, and a report is
answered by what the caller says the host answered. So nothing but the lists, the registered order
and capacity, and the host's answers decides what comes out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.populate import plan_from_snapshot, populate_snapshot
from pagesoak.allocator.profile import DEFAULT_PROFILE, Profile
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    E_ORDER,
    E_PFN,
    ENTRY_WORDS,
    R_ENTRIES,
    R_ZONE,
    REQUESTED,
    Z_FREE_PAGES,
    ZONE_WORDS,
)
from pagesoak.base.segment import Segment
from pagesoak.base.wants import AwaitPass, Report, Run, Sleep, Want, YieldPoint
from pagesoak.reporter.passes import REPORTING_ORDER, ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.worker import reporter_worker

PASSES_MAX = 4096
"""A guest of 64 GiB is through after 16 passes; one of 16 times as many pages after 256."""

Block = tuple[int, int]
"""First page and order."""


class PredictedCall(NamedTuple):
    """One report call: entries in scatterlist order, free pages of all zones when it begins."""

    zone: int
    entries: tuple[Block, ...]
    free_pages: int


@dataclass
class PredictedPass:
    """One pass; `requested_again`: another follows 2 s after its end, with no cause but this."""

    calls: list[PredictedCall] = field(default_factory=list)
    requested_again: bool = False


def predict_reports(
    snapshot: FreeListSnapshot,
    *,
    order: int = REPORTING_ORDER,
    profile: Profile = DEFAULT_PROFILE,
    file: str | None = None,
    answers: Callable[[int], int] = lambda _: 0,
    at_end: Callable[[Segment], None] | None = None,
) -> list[PredictedPass]:
    """Every pass from the registration of a device until nothing is requested any more.

    `order` is page_reporting_order; `answers` says what the host answered to the n-th call (from
    0): 0 or an errno. `at_end` is shown the guest after the last pass. `file` names the snapshot
    in errors. Raises InputErrors when the model cannot hold the guest.
    """
    recorded = {pageset.cpu for zone in snapshot.zones for pageset in zone.pagesets}
    cpus = max(recorded, default=0) + 1
    segment = Segment.create(plan_from_snapshot(snapshot, cpus=cpus, file=file))
    try:
        populate_snapshot(segment, snapshot, profile=profile)
        passes = _Prediction(segment, order, answers).passes()
        if at_end is not None:
            at_end(segment)
    finally:
        segment.close()
    return passes


class _Prediction:
    """The reporter on a guest in which nothing else happens."""

    def __init__(self, segment: Segment, order: int, answers: Callable[[int], int]) -> None:
        self._segment = segment
        self._answers = answers
        self._calls = 0
        settings = ReporterSettings(zones=segment.plan.zones, order=order)
        number = segment.plan.cpus  # the workers are the CPUs, then the reporter
        self._worker = reporter_worker(segment.base, number, Mainline(), settings)

    def passes(self) -> list[PredictedPass]:
        """Drive the worker until it has nothing to do."""
        passes: list[PredictedPass] = []
        answer: Any = None
        while True:
            want = self._worker.send(answer)
            if isinstance(want, AwaitPass):
                self._worker.close()
                return passes
            if isinstance(want, Sleep):
                passes.append(PredictedPass())
                if len(passes) > PASSES_MAX:
                    raise HarnessError(f"reporting does not come to an end: {PASSES_MAX} passes")
            answer = self._answer(want, passes)

    def _answer(self, want: Want, passes: list[PredictedPass]) -> Any:
        match want:
            case Run():
                result = want.function(self._segment.base, *want.arguments, 0)
                if want.name == "end-pass":
                    passes[-1].requested_again = result == REQUESTED
                return result
            case Sleep():
                return want.deadline_ns
            case Report():
                passes[-1].calls.append(self._call(want))
                self._calls += 1
                return self._answers(self._calls - 1)
            case YieldPoint():
                return None
        raise HarnessError(f"the reporter wants {want}, which nobody here has")

    def _call(self, want: Report) -> PredictedCall:
        report = self._segment.report
        zones = self._segment.zones
        entries = []
        for index in range(want.start, want.start + want.entries):
            at = R_ENTRIES + index * ENTRY_WORDS
            entries.append((int(report[at + E_PFN]), int(report[at + E_ORDER])))
        starts = range(0, self._segment.plan.zones * ZONE_WORDS, ZONE_WORDS)
        free_pages = sum(int(zones[start + Z_FREE_PAGES]) for start in starts)
        return PredictedCall(int(report[R_ZONE]), tuple(entries), free_pages)
