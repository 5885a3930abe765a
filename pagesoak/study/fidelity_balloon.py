"""The real virtio-balloon: what can be said of a recording that traced the reporting functions.

Three things are checked. *Scatterlists*, when the guest was idle: predicted from the last exact
lists before the driver was loaded (`before.free`), as for a timeline. *Starts of passes*: from the
freed blocks (notify) and the ends of passes, both in the trace. *The rules of a pass*, which show
in every call whatever the lists were (`study.pass_rules`).

Not checked, because the recording does not say enough: the blocks of a call while a load ran (its
page events were not traced), and the start of the first pass (the driver's registration is on no
clock of the trace). How long the device takes is the host's doing and no prediction.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.layout import PAGEBLOCK_ORDER
from pagesoak.study.fidelity_result import (
    DIVERGENCES_MAX,
    CheckResult,
    Demand,
    Divergence,
    Fault,
    NotChecked,
)
from pagesoak.study.pass_causes import starts_of
from pagesoak.study.pass_rules import broken_rules
from pagesoak.study.pass_starts import check_pass_starts
from pagesoak.study.pass_trace import PassTrace, read_pass_trace
from pagesoak.study.predicted_reports import PredictedPass, predict_reports
from pagesoak.study.recording_meta import (
    RecordedKernel,
    find_file,
    recorded_kernel,
    registered_order,
)
from pagesoak.study.report_comparison import compare_calls
from pagesoak.study.reporting_csv import contradictions, read_reporting_table
from pagesoak.study.reports_csv import ReportCall

KIND = "balloon"
NS_PER_US = 1_000
FREE_PAGES_UNKNOWN = -1

ReadT = TypeVar("ReadT")


def check_balloon(folder: Path) -> CheckResult:
    """Check what can be checked of a recording of the real balloon."""
    return _Balloon(folder).check()


class _Balloon:
    """One recording: what could be read of it, and every fault on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._faults: list[Fault] = []
        self._divergences: list[Divergence] = []
        self._not_checked: list[NotChecked] = []
        self._figures: dict[str, Any] = {}
        self._notes: list[str] = []

    def check(self) -> CheckResult:
        """All there is to check."""
        kernel = self._try(lambda: recorded_kernel(self._folder))
        if kernel is not None and kernel.said is None:
            name = kernel.profile.name
            self._notes.append(f"the recording names no kernel: {name} is assumed")
        trace = self._trace()
        before = find_file(self._folder, "before.free")
        snapshot = None if before is None else self._try(lambda: read_free_lists(before))
        pageblock_order = PAGEBLOCK_ORDER if snapshot is None else snapshot.pageblock_order
        order = self._try(lambda: registered_order(self._folder, pageblock_order))
        demands: list[Demand] = []
        predicted = None
        if kernel is not None and order is not None:
            predicted = self._predict(trace, snapshot, kernel, order)
            demands += self._check_rules(trace, snapshot, order)
        demands += self._check_calls(trace, predicted)
        busy = _under_load(self._folder, trace)
        starts = check_pass_starts(list(starts_of(trace, predicted)), busy=busy)
        self._figures |= starts.figures
        self._divergences += starts.divergences
        self._not_checked += starts.not_checked
        self._figures |= _windows(trace)
        return CheckResult(
            str(self._folder),
            KIND,
            kernel.version if kernel else "",
            self._figures,
            (*demands, *starts.demands),
            tuple(self._divergences[:DIVERGENCES_MAX]),
            tuple(self._not_checked),
            tuple(self._faults),
            tuple(self._notes),
        )

    def _try(self, read: Callable[[], ReadT]) -> ReadT | None:
        try:
            return read()
        except InputError as error:
            self._faults.append(Fault.of(error))
        except InputErrors as errors:
            self._faults += [Fault.of(error) for error in errors.errors]
        return None

    def _trace(self) -> PassTrace:
        """The trace, the table where there is no trace; empty when neither can be read."""
        path = find_file(self._folder, "trace.txt")
        table_path = find_file(self._folder, "reporting.csv")
        trace = None if path is None else self._try(lambda: read_pass_trace(path))
        table = None if table_path is None else self._try(lambda: read_reporting_table(table_path))
        if path is None:
            fault = Fault(str(self._folder / "trace.txt"), "is missing")
            self._faults.append(fault)
        for found in (trace, table):
            self._faults += found.faults if found is not None else []
        if trace is not None and table is not None:
            self._faults += contradictions(table, trace)
        return trace or table or PassTrace(str(self._folder))

    def _predict(
        self,
        trace: PassTrace,
        snapshot: FreeListSnapshot | None,
        kernel: RecordedKernel,
        order: int,
    ) -> list[PredictedPass] | None:
        """The passes of an idle guest from the lists before load; None where that says nothing."""
        total = sum(len(made.calls) for made in trace.passes)
        why = None
        if _under_load(self._folder, trace):
            why = "a load ran, and what it allocated and freed is not in the trace"
        elif snapshot is None:
            why = "there are no exact lists from before the driver was loaded (before.free)"
        elif not trace.passes or snapshot.t_ns > trace.passes[0].start_ns:
            why = "the exact lists (before.free) are not older than the first pass"
        if why is not None or snapshot is None:
            if total:
                what = "blocks of report calls"
                self._not_checked.append(NotChecked(what, trace.file, why or "", total))
            return None
        answers = [call.error for made in trace.passes for call in made.calls]
        return self._try(
            lambda: predict_reports(
                snapshot,
                order=order,
                profile=kernel.profile,
                file=str(find_file(self._folder, "before.free")),
                answers=lambda number: answers[number] if number < len(answers) else 0,
            )
        )

    def _check_calls(
        self, trace: PassTrace, predicted: list[PredictedPass] | None
    ) -> list[Demand]:
        recorded = _report_calls(trace)
        unread = sum(len(made.calls) for made in trace.passes) - len(recorded)
        if predicted is None:
            count = unread + len(recorded)
            nothing = {"exact": 0, "total": 0, "not_checked": count}
            self._figures["scatterlists"] = nothing
            if self._faults and count and not self._not_checked:
                why = "; ".join(str(fault) for fault in self._faults)
                what = "blocks of report calls"
                self._not_checked.append(NotChecked(what, trace.file, why, count))
            return []
        calls = compare_calls(
            recorded,
            predicted,
            file=trace.file,
            unread=unread,
            ended_ns=None if trace.faults else trace.ended_ns,
        )
        self._figures |= calls.figures
        self._divergences += calls.divergences
        self._not_checked += calls.not_checked
        scatterlists = calls.figures["scatterlists"]
        every = scatterlists["exact"] == scatterlists["total"]
        return [Demand("every scatterlist exact, entries in order", every)]

    def _check_rules(
        self, trace: PassTrace, snapshot: FreeListSnapshot | None, order: int
    ) -> list[Demand]:
        """Every call of a pass that is whole, against the rules of a pass."""
        kept = 0
        total = 0
        left_out = 0
        for made in trace.passes:
            if not made.whole:
                left_out += len(made.calls)
                continue
            for call, broken in zip(made.calls, broken_rules(made, order, snapshot), strict=True):
                total += 1
                kept += not broken
                where = f"{trace.file}:{call.line}"
                self._divergences += [
                    Divergence(where, complaint, "no pass does that", f"pass {made.number}")
                    for complaint in broken
                ]
        self._figures["calls_by_rule"] = {"kept": kept, "total": total, "not_checked": left_out}
        if left_out:
            why = "events of their passes are missing"
            self._not_checked.append(NotChecked("report calls", trace.file, why, left_out))
        text = "every report call keeps the rules of a pass: zones, orders, full lists, put-back"
        return [Demand(text, kept == total)] if total else []


def _under_load(folder: Path, trace: PassTrace) -> bool:
    """Whether a load ran: its bursts are marked in the trace, or logged beside it."""
    marked = any(marker.startswith("BURST") for marker in trace.markers)
    return marked or any(folder.glob("*burst.csv*"))


def _report_calls(trace: PassTrace) -> tuple[ReportCall, ...]:
    """The calls of whole passes in the form of a device's log, numbered as they were made."""
    calls = [(made, call) for made in trace.passes for call in made.calls]
    return tuple(
        ReportCall(
            number,
            call.line,
            call.start_ns,
            call.end_ns,
            call.scatterlist,
            FREE_PAGES_UNKNOWN,
            call.error,
        )
        for number, (made, call) in enumerate(calls)
        if made.whole and call.end_ns >= 0
    )


def _windows(trace: PassTrace) -> dict[str, Any]:
    """How long the device took: the host's doing, shown and not predicted."""
    spans = sorted(
        (call.end_ns - call.start_ns) // NS_PER_US
        for made in trace.passes
        for call in made.calls
        if call.end_ns >= 0
    )
    if not spans:
        return {}
    return {"windows_us": {"least": spans[0], "median": spans[len(spans) // 2], "most": spans[-1]}}
