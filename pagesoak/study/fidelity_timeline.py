"""Timelines: every report call of an idle guest, predicted from its free lists at load.

The lists were taken just after a device was registered (`atload.free`). From there pagesoak's own
reporter worker makes the passes. What the device logged (`reports.csv`) is compared with them:
each call's pass and entries in scatterlist order; each pass's start with the timer wheel; the
calls' lengths, for a device that sleeps a known time (msleep); and the lists of reportable
orders at the end (`after.free`).

What is assumed: between load and the last pass the guest itself neither takes nor gives back a
block that matters. The recording has no page events, so nobody knows what it did. A block of a
reportable order taken or freed meanwhile would show as a deviation. Once the device is idle only a
free wakes it, so passes after that are not predicted and count as not checked.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.proc_view import free_list_snapshot
from pagesoak.allocator.profile import msleep_extra_ticks
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.timer_wheel import TickClock, msleep_ends_ns, tick_at
from pagesoak.study.fidelity_result import (
    DIVERGENCES_MAX,
    CheckResult,
    Demand,
    Divergence,
    Fault,
    NotChecked,
)
from pagesoak.study.pass_starts import PassStart, check_pass_starts
from pagesoak.study.predicted_reports import PredictedPass, predict_reports
from pagesoak.study.recording_meta import (
    RecordedKernel,
    find_file,
    recorded_kernel,
    registered_order,
)
from pagesoak.study.report_comparison import begins_pass, compare_calls, compare_end
from pagesoak.study.reports_csv import ReportLog, read_report_log

KIND = "timeline"
EMPTY_LOG = ReportLog((), -1, -1, -1, 0, 0, ())
LOADED_LISTS = "atload.free"

ReadT = TypeVar("ReadT")


class _Prediction(NamedTuple):
    """The passes, the guest after them, and page_reporting_order."""

    passes: list[PredictedPass]
    end: FreeListSnapshot
    order: int


def check_timeline(folder: Path) -> CheckResult:
    """Predict the calls of a timeline recording and compare."""
    return _Timeline(folder).check()


class _Timeline:
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
        log = self._read("reports.csv", read_report_log) or EMPTY_LOG
        self._faults.extend(log.faults)
        snapshot = self._read(LOADED_LISTS, read_free_lists)
        end = find_file(self._folder, "after.free")
        ended = None if end is None else self._try(lambda: read_free_lists(end))
        kernel = self._try(lambda: recorded_kernel(self._folder))
        if kernel is not None and kernel.said is None:
            name = kernel.profile.name
            self._notes.append(f"the recording names no kernel: {name} is assumed")
        predicted = None
        if snapshot is not None and kernel is not None:
            predicted = self._try(lambda: self._predict(snapshot, kernel, log))
        demands = self._check_calls(log, predicted, ended)
        starts = check_pass_starts(list(self._starts(log, predicted)))
        self._figures |= starts.figures
        self._divergences += starts.divergences
        self._not_checked += starts.not_checked
        if kernel is not None:
            self._figures |= _call_lengths(log, starts.clock, kernel)
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

    def _place(self, name: str) -> str:
        return str(find_file(self._folder, name) or self._folder / name)

    def _read(self, name: str, reader: Callable[[Path], ReadT]) -> ReadT | None:
        path = find_file(self._folder, name)
        if path is None:
            self._faults.append(Fault(str(self._folder / name), "is missing"))
            return None
        return self._try(lambda: reader(path))

    def _try(self, read: Callable[[], ReadT]) -> ReadT | None:
        try:
            return read()
        except InputError as error:
            self._faults.append(Fault.of(error))
        except InputErrors as errors:
            self._faults += [Fault.of(error) for error in errors.errors]
        return None

    def _predict(
        self, snapshot: FreeListSnapshot, kernel: RecordedKernel, log: ReportLog
    ) -> _Prediction:
        order = registered_order(self._folder, snapshot.pageblock_order)
        answers = {call.number: call.error for call in log.calls}
        ends: list[FreeListSnapshot] = []
        passes = predict_reports(
            snapshot,
            order=order,
            profile=kernel.profile,
            file=self._place(LOADED_LISTS),
            answers=lambda number: answers.get(number, 0),
            at_end=lambda segment: ends.append(free_list_snapshot(segment, 0)),
        )
        return _Prediction(passes, ends[0], order)

    def _check_calls(
        self, log: ReportLog, predicted: _Prediction | None, ended: FreeListSnapshot | None
    ) -> tuple[Demand, ...]:
        file = self._place("reports.csv")
        unread = log.unread + max(log.lost, 0)
        if predicted is None:
            count = len(log.calls) + unread
            nothing = {"exact": 0, "total": 0, "not_checked": count}
            self._figures["scatterlists"] = nothing
            why = "nothing could be predicted: " + "; ".join(str(fault) for fault in self._faults)
            self._not_checked.append(NotChecked("report calls", file, why, count))
            return ()
        calls = compare_calls(
            log.calls,
            predicted.passes,
            file=file,
            unread=unread,
            ended_ns=None if ended is None else ended.t_ns,
        )
        self._figures |= calls.figures
        self._divergences += calls.divergences
        self._not_checked += calls.not_checked
        if ended is not None:
            end = compare_end(predicted.end, ended, predicted.order, self._place("after.free"))
            self._figures |= end.figures
            self._divergences += end.divergences
        scatterlists = calls.figures["scatterlists"]
        every = scatterlists["exact"] == scatterlists["total"]
        return (Demand("every scatterlist exact, entries in order", every),)

    def _starts(self, log: ReportLog, predicted: _Prediction | None) -> Iterator[PassStart]:
        """Every recorded pass and its cause."""
        file = self._place("reports.csv")
        number = 0
        before = None
        for call in log.calls:
            if before is not None and not begins_pass(before, call):
                before = call
                continue
            number += 1
            where = f"{file}:{call.line}"
            cause = "the device's registration"
            cause_ns: int | None = log.registered_ns
            if before is not None:
                cause, cause_ns = "the end of the pass before it", before.end_ns
                if before.number + 1 != call.number:
                    cause, cause_ns = "calls before it are not readable", None
                elif predicted is None or not _requested(predicted, number):
                    cause, cause_ns = "a free that is not recorded", None
            elif call.number or log.registered_ns < 0:
                cause, cause_ns = "the registration is not in the file", None
            yield PassStart(number, call.start_ns, where, cause, cause_ns)
            before = call


def _requested(predicted: _Prediction, number: int) -> bool:
    """Whether the pass before pass `number` (from 1) asked for it and made calls itself."""
    before = number - 2
    passes = predicted.passes
    return before < len(passes) and passes[before].requested_again and bool(passes[before].calls)


def _call_lengths(
    log: ReportLog, clock: TickClock | None, kernel: RecordedKernel
) -> dict[str, Any]:
    """Calls that end at the very tick at which an msleep of `delay_ms` ends."""
    if clock is None or log.delay_ms <= 0 or log.delay_us_per_mib != 0:
        return {}
    extra = msleep_extra_ticks(kernel.profile)
    exact = sum(
        tick_at(clock, call.end_ns)
        == tick_at(clock, msleep_ends_ns(clock, call.start_ns, log.delay_ms, extra))
        for call in log.calls
    )
    return {"call_lengths": {"to_the_tick": exact, "total": len(log.calls)}}
