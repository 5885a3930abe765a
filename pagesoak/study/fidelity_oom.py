"""OOM tables: how often the kernel killed, and how often the model expects it to have.

A folder holds `per_run.csv`, and for each table the free lists of its boot (`boot_T.before.free`)
and the run that made it (`boot_T.run.json`, which names the kernel); `raw/` holds every burst and
every report call. Each table and window is a row: kills recorded, kills expected, and the 95 %
prediction interval for what is counted in as many runs (`oom_interval`), of boots simulated page
for page (`oom_boots`). Nothing is fitted: the load is the columns', the time to touch a page is
read from bursts that were not killed, and all the rest is the kernel's rules.

A row of 100 ms and more whose interval is so wide that it would pass whatever was counted fails.
Stalls per kill follow from the retry rule of the kernel's profile.

Checked beside the count, and told as figures without a demand: report calls, their pages and
length, bursts per run, free pages at a kill.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.units import NS_PER_MS
from pagesoak.study.fidelity_result import (
    DIVERGENCES_MAX,
    CheckResult,
    Demand,
    Divergence,
    Fault,
    NotChecked,
)
from pagesoak.study.oom_beside import figures_beside, free_pages_at_kills, mean, ratio, rounded
from pagesoak.study.oom_boots import SimulatedRun
from pagesoak.study.oom_bursts import check_counts, find_bursts, read_bursts
from pagesoak.study.oom_prediction import (
    Prediction,
    RecordedBursts,
    Row,
    TableInputs,
    TablePrediction,
    rows_of,
)
from pagesoak.study.oom_table import OomRun, OomTable, read_oom_table
from pagesoak.study.recording_meta import RecordedKernel, find_file, recorded_kernel
from pagesoak.study.reports_csv import ReportLog, read_report_log

KIND = "oom"
TABLE_FILE = "per_run.csv"
OTHER_DEVICE = (
    "no stand-in device: the call lasts as long as the host's discards, and the guest's timers "
    "stand still meanwhile"
)
ReadT = TypeVar("ReadT")


def check_oom(folder: Path) -> CheckResult:
    """Predict every row of a folder's tables and compare."""
    return _Folder(folder).check()


class _Folder:
    """One folder: what could be read of it, and every fault on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._faults: list[Fault] = []
        self._not_checked: list[NotChecked] = []
        self._divergences: list[Divergence] = []
        self._demands: list[Demand] = []
        self._rows: list[dict[str, Any]] = []
        self._beside: list[dict[str, Any]] = []
        self._versions: list[str] = []
        self._notes: list[str] = []

    def check(self) -> CheckResult:
        """All there is to check."""
        path = find_file(self._folder, TABLE_FILE) or self._folder / TABLE_FILE
        table = self._try(lambda: read_oom_table(path)) or OomTable((), ())
        self._faults.extend(table.faults)
        if table.faults:
            self._leave_out("runs", str(path), "their lines cannot be right", len(table.faults))
        for name in dict.fromkeys(run.table for run in table.runs):
            self._check_table(name, [run for run in table.runs if run.table == name])
        return CheckResult(
            path=str(self._folder),
            kind=KIND,
            kernel=", ".join(dict.fromkeys(filter(None, self._versions))),
            figures={"oom": self._rows, "beside": self._beside},
            demands=tuple(self._demands),
            divergences=tuple(self._divergences[:DIVERGENCES_MAX]),
            not_checked=tuple(self._not_checked),
            faults=tuple(self._faults),
            notes=(*self._notes, *(_NOTES if self._rows else ())),
        )

    def _try(self, read: Callable[[], ReadT]) -> ReadT | None:
        """What `read` gives; None, and faults, when it finds something wrong."""
        try:
            return read()
        except InputError as error:
            self._faults.append(Fault.of(error))
        except InputErrors as errors:
            self._faults.extend(Fault.of(error) for error in errors.errors)
        return None

    def _leave_out(self, what: str, where: str, reason: str, number: int = 1) -> None:
        self._not_checked.append(NotChecked(what, where, reason, number))

    def _check_table(self, name: str, runs: list[OomRun]) -> None:
        usable = [run for run in runs if run.is_stand_in]
        for row in rows_of(run for run in runs if not run.is_stand_in):
            self._leave_out(f"window {row.window}", f"table {name}", OTHER_DEVICE, len(row.runs))
        if not usable:
            return
        rows = rows_of(usable)
        lists = find_file(self._folder, f"boot_{name}.before.free")
        if lists is None:
            reason = f"no free lists of its boot (boot_{name}.before.free)"
            self._leave_out("rows", f"table {name}", reason, len(rows))
            return
        snapshot = self._try(lambda: read_free_lists(lists))
        kernel = self._try(lambda: recorded_kernel(self._folder, self._run_json(name)))
        if snapshot is None or kernel is None:
            reason = "its free lists or its kernel are not known, as named among the faults"
            self._leave_out("rows", f"table {name}", reason, len(rows))
            return
        self._check_rows(rows, tuple(usable), snapshot, kernel)

    def _run_json(self, table: str) -> str:
        """Name of the file that says what made a table: one of its own, or the folder's."""
        own = f"boot_{table}.run.json"
        return own if (self._folder / own).exists() else "run.json"

    def _check_rows(
        self,
        rows: list[Row],
        runs: tuple[OomRun, ...],
        snapshot: FreeListSnapshot,
        kernel: RecordedKernel,
    ) -> None:
        self._versions.append(kernel.version)
        if kernel.said is None:
            assumed = kernel.profile.name
            self._notes.append(f"table {rows[0].table} names no kernel: {assumed} is assumed")
        logs = {run.line: log for run in runs if (log := self._report_log(run)) is not None}
        bursts = {run.line: found for run in runs if (found := self._bursts(run, logs))}
        prediction = TablePrediction(TableInputs(runs, snapshot, kernel.profile, bursts))
        for row in rows:
            if any(logs[run.line].delay_us_per_mib > 0 for run in row.runs if run.line in logs):
                reason = "the callback's sleep grows with what is reported"
                self._leave_out(f"window {row.window}", f"table {row.table}", reason)
                continue
            try:
                expected = prediction.of(row)
            except InputError as error:
                where = f"table {row.table}, window {row.window}"
                self._leave_out("row", where, error.message)
                continue
            self._compare(row, kernel, expected)

    def _raw(self, run: OomRun, name: str) -> Path | None:
        return find_file(self._folder / "raw", f"{run.table}_w{run.window}_s{run.seed}.{name}")

    def _report_log(self, run: OomRun) -> ReportLog | None:
        path = self._raw(run, "reports.csv")
        log = None if path is None else self._try(lambda: read_report_log(path))
        if log is not None:
            self._faults.extend(log.faults)
        return log

    def _bursts(self, run: OomRun, logs: dict[int, ReportLog]) -> RecordedBursts | None:
        path = find_bursts(self._folder, run)
        if path is None:
            return None
        bursts = self._try(lambda: read_bursts(path))
        if bursts is None or self._try(lambda: _counted(run, bursts, path)) is None:
            return None
        log = logs.get(run.line)
        known = log is not None and log.registered_ns >= 0
        return RecordedBursts(bursts, log.registered_ns if log is not None and known else None)

    # -- a row and its prediction ---------------------------------------------------------------

    def _compare(self, row: Row, kernel: RecordedKernel, predicted: Prediction) -> None:
        expected = predicted.expected
        where = f"table {row.table}, window {row.window}"
        consistent = expected.holds(row.kills)
        between = f"{expected.low} to {expected.high}"
        self._demands.append(Demand(f"{where}: {row.kills} kills, {between} expected", consistent))
        if not consistent:
            self._divergences.append(
                Divergence(
                    f"{self._folder / TABLE_FILE}:{row.runs[0].line}",
                    f"{row.kills} kills in {len(row.runs)} runs",
                    f"{between}, {rounded(expected.kills)} on average",
                    where,
                )
            )
        if row.must_be_narrow:
            self._demands.append(Demand(f"{where}: {between} tells something", expected.is_narrow))
        simulated = predicted.all_runs()
        stalls, recorded_stalls = self._compare_stalls(row, simulated, where)
        self._rows.append(
            {
                "table": row.table,
                "kernel": kernel.profile.name,
                "window_ms": row.window_ms,
                "call_ms": mean(
                    Fraction(call.ended_ns - call.began_ns, NS_PER_MS)
                    for run in simulated
                    for call in run.calls
                ),
                "recorded_kills": row.kills,
                "recorded_bursts": sum(run.bursts for run in row.runs),
                "recorded_runs": len(row.runs),
                "predicted_kills": rounded(expected.kills),
                "predicted_low": expected.low,
                "predicted_high": expected.high,
                "stalls_per_kill": stalls,
                "consistent": consistent,
                "pauses": predicted.pauses,
                "simulated_runs": len(set(map(id, simulated))),
                "recorded_stalls_per_kill": recorded_stalls,
            }
        )
        paths = [path for run in row.runs if (path := self._raw(run, "dmesg")) is not None]
        logs = [self._try(partial(free_pages_at_kills, path)) for path in paths]
        depths = [pages for log in logs if log is not None for pages in log]
        for beside in figures_beside(row, simulated, depths):
            self._beside.append(beside.as_json(row))

    def _compare_stalls(
        self, row: Row, simulated: list[SimulatedRun], where: str
    ) -> tuple[int | None, int | float | None]:
        """Direct reclaims per kill, as the retry rule makes them, and as they were counted.

        The counter also has the reclaims of requests that were served in the end. Where the model
        expects such, the counter is more than the rule makes; else it is just that.
        """
        killed = [stalls for run in simulated for stalls in run.stalls_of_killed]
        counted = [run.stalls for run in row.runs if run.stalls is not None]
        recorded = ratio(sum(counted), row.kills) if len(counted) == len(row.runs) else None
        if not killed:
            return None, recorded
        expected = median_low(killed)
        if recorded is not None:
            others = sum(sum(run.stalls) for run in simulated) > expected * len(killed)
            text = f"{where}: {recorded} stalls per kill, {expected} expected"
            holds = recorded >= expected if others else recorded == expected
            self._demands.append(Demand(text, holds))
        return expected, recorded


_NOTES = (
    "predicted_low to predicted_high: 95 % prediction interval for the kills in as many runs",
    "pauses drawn around the table's gap; recorded ones where that leaves the interval too wide",
    "beside: what else was recorded, without a demand",
)


def _counted(run: OomRun, bursts: list[Any], path: Path) -> bool:
    check_counts(run, bursts, path)
    return True
