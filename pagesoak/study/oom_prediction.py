"""What the model expects of each row of an OOM table, from its columns and its boot's lists.

A boot is simulated once per seed with pauses *drawn* around the table's gap: the load as anybody
would know it. Where few kills are expected, such a prediction is too wide to tell anything: the
same load, begun once more, would be hit at other moments. Then the same runs are predicted from
what their loads asked for, *recorded* pause by pause, as a trace is replayed from its requests;
each pause is taken to be known up to a bucket of the timer wheel at the reporting delay, because
where in a bucket a run began is not recorded. Kills, windows and report calls are never read.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import process
from os import sched_getaffinity
from typing import NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.profile import WHOLE_REGIONS_ALIGNED, Profile
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import PAGEBLOCK_PAGES
from pagesoak.base.timer_wheel import HZ, TickClock, bucket_ticks, ticks_of, wheel_level
from pagesoak.base.units import NS_PER_MS, NS_PER_SECOND
from pagesoak.reporter.passes import DELAY_NS
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policy import Policy
from pagesoak.study.oom_boots import BootPlan, RunPlan, Simulated, SimulatedRun, Times
from pagesoak.study.oom_boots import simulate_boots as simulate
from pagesoak.study.oom_bursts import (
    RecordedBurst,
    Requests,
    give_back_ns,
    requests_of,
    touch_page_ns,
)
from pagesoak.study.oom_interval import Expected, expected_kills
from pagesoak.study.oom_table import OFF, Conditions, OomRun

DRAWN_SEEDS = 96
"""Boots simulated with drawn pauses: the bounds of a sum of six runs then move by about one kill
when other seeds are taken.
"""
RECORDED_SEEDS = 40
"""Boots simulated for each recorded one: little is left to chance in them."""
PROCESSES_MAX = 4
NARROW_FROM_MS = 100
"""From this window on an interval must be narrow enough to tell something."""

DRAWN = "drawn"
RECORDED = "recorded"


class Row(NamedTuple):
    """Runs of one table, window and conditions: what is compared with one prediction."""

    table: str
    window: str
    conditions: Conditions
    runs: tuple[OomRun, ...]

    @property
    def window_ms(self) -> int | None:
        """What the callback sleeps; None without device."""
        return None if self.window == OFF else int(self.window)

    @property
    def kills(self) -> int:
        """Recorded kills."""
        return sum(run.kills for run in self.runs)

    @property
    def must_be_narrow(self) -> bool:
        """Whether its interval must tell something."""
        return self.window_ms is not None and self.window_ms >= NARROW_FROM_MS


class Prediction(NamedTuple):
    """What is expected of a row: kills, and the simulated runs, one list for each recorded run."""

    expected: Expected
    runs: tuple[tuple[SimulatedRun, ...], ...]
    pauses: str
    """DRAWN or RECORDED."""

    def all_runs(self) -> list[SimulatedRun]:
        """Every simulated run, one weight each."""
        return [run for runs in self.runs for run in runs]


class RecordedBursts(NamedTuple):
    """The bursts of a run, and when its device was registered, ns; None if that is not known."""

    bursts: list[RecordedBurst]
    registered_ns: int | None


class TableInputs(NamedTuple):
    """All that a table's prediction rests on. `bursts` by a run's line in per_run.csv."""

    runs: tuple[OomRun, ...]
    snapshot: FreeListSnapshot
    profile: Profile
    bursts: dict[int, RecordedBursts]
    policy: Policy = Mainline()


def rows_of(runs: Iterable[OomRun]) -> list[Row]:
    """The rows of some runs, in the order of their first."""
    grouped: dict[tuple[str, str, Conditions], list[OomRun]] = {}
    for run in runs:
        grouped.setdefault((run.table, run.window, run.conditions), []).append(run)
    return [Row(*key, tuple(found)) for key, found in grouped.items()]


def processes() -> int:
    """How many boots are simulated at once."""
    return min(len(sched_getaffinity(0)), PROCESSES_MAX)


def pause_jitter_ns() -> int:
    """How far a recorded pause may be off: a bucket of the wheel at the reporting delay."""
    ticks = bucket_ticks(wheel_level(ticks_of(TickClock(), DELAY_NS)))
    return ticks * NS_PER_SECOND // HZ


class TablePrediction:
    """The predictions for a table's rows; each kind of boot is simulated at most once."""

    def __init__(self, inputs: TableInputs) -> None:
        self.inputs = inputs
        self._boots: dict[str, list[OomRun]] = {}
        for run in inputs.runs:
            self._boots.setdefault(run.boot, []).append(run)
        self._simulated: dict[object, list[Simulated]] = {}
        self._times = {told.thp: self._read_times(told) for told in self._all_conditions()}

    def of(self, row: Row) -> Prediction:
        """What is expected of a row. Raises InputError when the load cannot be had."""
        drawn = self._predict(row, DRAWN, self._drawn_boot)
        if drawn.expected.is_narrow or not row.must_be_narrow:
            return drawn
        if any(run.line not in self.inputs.bursts for run in self._runs_beside(row)):
            return drawn
        return self._predict(row, RECORDED, self._recorded_boot)

    def times(self, conditions: Conditions) -> Times:
        """How long touching and giving back take under these conditions."""
        return self._times[conditions.thp]

    def _all_conditions(self) -> dict[Conditions, None]:
        return dict.fromkeys(run.conditions for run in self.inputs.runs)

    def _runs_beside(self, row: Row) -> list[OomRun]:
        return [run for boot in {run.boot for run in row.runs} for run in self._boots[boot]]

    def _predict(
        self, row: Row, pauses: str, simulated: Callable[[str], list[Simulated]]
    ) -> Prediction:
        runs = []
        for run in row.runs:
            place = self._boots[run.boot].index(run)
            runs.append(tuple(boot[place] for boot in simulated(run.boot)))
        kills = [[run.kills for run in found] for found in runs]
        return Prediction(expected_kills(kills), tuple(runs), pauses)

    def _drawn_boot(self, boot: str) -> list[Simulated]:
        told = [(run.window, run.conditions) for run in self._boots[boot]]
        return self._boot((DRAWN, *told), boot, 0, range(1, DRAWN_SEEDS + 1))

    def _recorded_boot(self, boot: str) -> list[Simulated]:
        return self._boot((RECORDED, boot), boot, pause_jitter_ns(), range(1, RECORDED_SEEDS + 1))

    def _boot(
        self, key: tuple[object, ...], boot: str, jitter_ns: int, seeds: range
    ) -> list[Simulated]:
        if key not in self._simulated:
            runs = self._boots[boot]
            plan = BootPlan(
                self.inputs.snapshot,
                self.inputs.profile,
                self.times(runs[0].conditions),
                tuple(self._run_plan(run, recorded=key[0] == RECORDED) for run in runs),
                jitter_ns,
                self.inputs.policy,
            )
            try:
                self._simulated[key] = simulate(plan, seeds, processes())
            except process.BrokenProcessPool:
                raise HarnessError("a process that simulates boots has died") from None
        return self._simulated[key]

    def _run_plan(self, run: OomRun, *, recorded: bool) -> RunPlan:
        told = run.conditions
        requests = self._requests(run) if recorded else Requests((), ())
        return RunPlan(run.window_ms, told, self._sizes(told), requests)

    def _requests(self, run: OomRun) -> Requests:
        told = run.conditions
        bursts, registered_ns = self.inputs.bursts[run.line]
        first_ns = told.gap_ns
        if registered_ns is not None and bursts:
            first_ns = max(bursts[0].began_ns - registered_ns, 0)
        unmap_ns = self._give_back_ns(told)
        return requests_of(bursts, told.hold_ns, unmap_ns, first_ns)

    def _sizes(self, told: Conditions) -> tuple[int, ...]:
        """Sizes that are drawn from: with jitter those that the table's bursts had, if they are
        recorded, else evenly so many per cent around the column.
        """
        if told.jitter_percent == 0:
            return (told.burst_pages,)
        sizes = sorted(b.pages for bursts in self._like(told) for b in bursts if b.pages > 0)
        if sizes:
            return tuple(sizes)
        percents = range(100 - told.jitter_percent, 100 + told.jitter_percent + 1)
        return tuple(max(told.burst_pages * percent // 100, 1) for percent in percents)

    def _like(self, told: Conditions) -> list[list[RecordedBurst]]:
        """The bursts of the runs with these conditions, whatever their window."""
        found = self.inputs.bursts
        return [
            found[run.line].bursts
            for run in self.inputs.runs
            if run.line in found and run.conditions == told
        ]

    def _give_back_ns(self, told: Conditions) -> int:
        return give_back_ns(self._like(told), told.hold_ns, told.gap_ns)

    def _touch_by_column(self, told: Conditions) -> int:
        """Time to touch a page by the table alone: the middle of its medians; 0 without any."""
        known = sorted(
            run.touch_ms for run in self.inputs.runs if run.touch_ms and run.conditions == told
        )
        middle = known[len(known) // 2] if known else 0
        return int(middle * NS_PER_MS) // told.burst_pages

    def _read_times(self, told: Conditions) -> Times:
        touch_ns = touch_page_ns(self._like(told))
        if touch_ns is None:
            touch_ns = self._touch_by_column(told)
        blocks = blocks_of(told, self.inputs.profile)
        touched_ns = touch_ns * told.burst_pages
        operation_ns = min(self._give_back_ns(told), touched_ns) // blocks
        page_touch_ns = max(touch_ns - operation_ns * blocks // told.burst_pages, 0)
        return Times(operation_ns, page_touch_ns)


def blocks_of(told: Conditions, profile: Profile) -> int:
    """How many blocks a burst gives back: huge pages, small ones, page tables."""
    page_tables = told.burst_pages // PAGEBLOCK_PAGES + 1
    if not told.thp:
        return told.burst_pages + page_tables
    if profile.has(WHOLE_REGIONS_ALIGNED) and told.burst_pages % PAGEBLOCK_PAGES == 0:
        return told.burst_pages // PAGEBLOCK_PAGES + page_tables
    huge = max((told.burst_pages - PAGEBLOCK_PAGES + 1) // PAGEBLOCK_PAGES, 0)
    return huge + told.burst_pages - huge * PAGEBLOCK_PAGES + page_tables
