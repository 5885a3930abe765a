"""Whole boots of a recorded OOM table on the virtual clock: its runs one after the other.

A boot begins with the recorded free lists and goes on from run to run as the guest's did: lists,
Reported flags, boost and kswapd's failures stay. Each run has the recorded load
(`allocator.process_load`), pagesoak's own reporter with policy mainline, and in place of the host
the stand-in device of the recordings, whose callback sleeps. Nothing here knows what was counted
in the recording.

Not modelled between runs: the recorder's hog ended and was started again, which moved its pages;
and the device was unloaded. Here the hog stays where it is.
"""

import gc
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import Any, NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.populate import plan_from_snapshot, populate_snapshot
from pagesoak.allocator.process_load import (
    ALIGNED,
    UNALIGNED,
    Burst,
    ProcessSettings,
    process_bursts,
)
from pagesoak.allocator.process_memory import table_words
from pagesoak.allocator.profile import WHOLE_REGIONS_ALIGNED, Profile, msleep_extra_ticks
from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base.costs import NO_COSTS, Costs
from pagesoak.base.generator import seed_words
from pagesoak.base.layout_reclaim import L_OOM_SCORE_ADJ
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import STALLS
from pagesoak.base.timer_wheel import TickClock, msleep_ends_ns
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.base.wants import Answer, AwaitReport, Now, Sleep, Want, Worker
from pagesoak.engine.virtual import VirtualDriver
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policy import Policy
from pagesoak.reporter.worker import reporter_worker
from pagesoak.study.oom_bursts import Requests
from pagesoak.study.oom_table import Conditions

HOG = 0
PROCESS = 1
"""Loads: the hog cannot be killed, the process is killed first."""
HOG_SCORE = -1000
PROCESS_SCORE = 1000
CPU = 0
REPORTER = 1
HOST = 2
SEEDS_AT_ONCE = 4
"""Boots that a process is given at a time: some tenths of a second each."""
PHASE_BITS = 32
"""Of one draw of `seed_words`."""


class Times(NamedTuple):
    """What things take in the recorded guest, ns: giving back a block, or taking one; and touching
    a page beyond that. Other times are not known, and small beside these.
    """

    operation_ns: int
    page_touch_ns: int

    def costs(self) -> Costs:
        """As the virtual clock has them."""
        return NO_COSTS._replace(operation_ns=self.operation_ns, page_touch_ns=self.page_touch_ns)


class RunPlan(NamedTuple):
    """One run of a boot: the callback's sleep, None without device; what the load is told to do;
    the sizes it draws from, and what it asks for one by one if that is known.
    """

    window_ms: int | None
    conditions: Conditions
    sizes_pages: tuple[int, ...]
    requests: Requests = Requests((), ())


class BootPlan(NamedTuple):
    """A boot: where it begins, under which kernel, how long things take, and its runs."""

    snapshot: FreeListSnapshot
    profile: Profile
    times: Times
    runs: tuple[RunPlan, ...]
    pause_jitter_ns: int = 0
    """Requested pauses are known up to this much either way."""
    policy: Policy = Mainline()


class Call(NamedTuple):
    """One report call: begin and end, entries, pages, and free pages when it began."""

    began_ns: int
    ended_ns: int
    entries: int
    pages: int
    free_pages: int


class SimulatedRun(NamedTuple):
    """What became of one run; `stalls` are the direct reclaims of each burst."""

    bursts: tuple[Burst, ...]
    calls: tuple[Call, ...]
    stalls: tuple[int, ...]

    @property
    def kills(self) -> int:
        """Bursts that the OOM killer ended."""
        return sum(burst.killed for burst in self.bursts)

    @property
    def stalls_of_killed(self) -> list[int]:
        """Direct reclaims of each burst that was killed."""
        pairs = zip(self.bursts, self.stalls, strict=True)
        return [stalls for burst, stalls in pairs if burst.killed]


Simulated = tuple[SimulatedRun, ...]
"""The runs of a boot."""


def simulate_boots(plan: BootPlan, seeds: Sequence[int], processes: int) -> list[Simulated]:
    """The boot once per seed; the same whatever the number of processes.

    The first is simulated here: what it needs of the core is compiled then, once for all.
    """
    first = [simulate_boot(plan, seed) for seed in seeds[:1]]
    others = seeds[1:]
    if processes <= 1 or not others:
        return [*first, *(simulate_boot(plan, seed) for seed in others)]
    gc.collect()
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        boots = pool.map(simulate_boot, [plan] * len(others), others, chunksize=SEEDS_AT_ONCE)
        return [*first, *boots]


def simulate_boot(plan: BootPlan, seed: int) -> Simulated:
    """The runs of one boot. Raises InputError when the hog cannot leave what it is to leave."""
    segment = _segment(plan, seed)
    try:
        return tuple(_run(segment, plan, run, seed, n) for n, run in enumerate(plan.runs))
    finally:
        segment.close()


def _segment(plan: BootPlan, seed: int) -> Segment:
    free = sum(zone.nr_free for zone in plan.snapshot.zones)
    hog_words = max(free - min(run.conditions.free_pages for run in plan.runs), 0) + 1
    largest = max(max((*run.sizes_pages, *run.requests.sizes_pages)) for run in plan.runs)
    words = table_words(largest)
    segment = Segment.create(
        plan_from_snapshot(plan.snapshot, cpus=1, loads=2, table_words=hog_words + words)
    )
    populate_snapshot(segment, plan.snapshot, profile=plan.profile)
    _write_load(segment, HOG, 0, hog_words, HOG_SCORE, seed)
    _write_load(segment, PROCESS, hog_words, words, PROCESS_SCORE, seed)
    return segment


def _write_load(
    segment: Segment, load: int, table: int, capacity: int, score: int, seed: int
) -> None:
    at = load * layout.LOAD_WORDS
    segment.loads[at + layout.L_OWNER] = layout.OWNER_FIRST_LOAD + load
    segment.loads[at + layout.L_CPU] = CPU
    segment.loads[at + layout.L_TABLE] = table
    segment.loads[at + layout.L_CAPACITY] = capacity
    segment.loads[at + L_OOM_SCORE_ADJ] = score
    for word, value in enumerate(seed_words(seed, load)):
        segment.loads[at + layout.L_RANDOM + word] = value


def _drawn(seed: int, stream: int, bound: int) -> int:
    """A number below `bound`, of a stream of its own beside those of the loads."""
    return seed_words(seed, 2 + stream)[0] * bound >> PHASE_BITS


def _jittered(pauses_ns: tuple[int, ...], plan: BootPlan, seed: int, run: int) -> tuple[int, ...]:
    width = 2 * plan.pause_jitter_ns + 1
    return tuple(
        max(pause + _drawn(seed, (run << 20) + number, width) - plan.pause_jitter_ns, 0)
        for number, pause in enumerate(pauses_ns)
    )


def _settings(plan: BootPlan, run: RunPlan, seed: int, number: int) -> ProcessSettings:
    told = run.conditions
    return ProcessSettings(
        cpu=CPU,
        load=PROCESS,
        hog=HOG,
        leave_free_pages=told.free_pages,
        sizes_drawn_pages=run.sizes_pages,
        think_ns=told.gap_ns,
        hold_ns=told.hold_ns,
        run_ns=told.run_ns,
        alignment=ALIGNED if plan.profile.has(WHOLE_REGIONS_ALIGNED) else UNALIGNED,
        pauses_ns=_jittered(run.requests.pauses_ns, plan, seed, number),
        sizes_pages=run.requests.sizes_pages,
    )


def _run(segment: Segment, plan: BootPlan, run: RunPlan, seed: int, number: int) -> SimulatedRun:
    _begin(segment, run)
    bursts: list[Burst] = []
    stalls = [_stalls(segment)]
    calls: list[Call] = []
    over: list[bool] = []

    def note(burst: Burst) -> None:
        bursts.append(burst)
        stalls.append(_stalls(segment))

    program = process_bursts(_settings(plan, run, seed, number), note)
    workers: dict[int, Worker] = {CPU: guest_worker([_to_its_end(program, over)])}
    if run.window_ms is not None:
        settings = ReporterSettings(zones=segment.plan.zones)
        workers[REPORTER] = reporter_worker(segment.base, REPORTER, plan.policy, settings)
        workers[HOST] = _stand_in(segment, run.window_ms, plan.profile, calls)
    driver = VirtualDriver(segment, workers, costs=plan.times.costs())
    driver.start()
    while not over:
        driver.run(driver.now_ns + NS_PER_SECOND)
    driver.finish()
    of_each = tuple(after - before for before, after in pairwise(stalls))
    return SimulatedRun(tuple(bursts), tuple(calls), of_each)


def _begin(segment: Segment, run: RunPlan) -> None:
    """Take the end of the run before back, but for what it did to the guest."""
    for word in (layout.H_STOP, layout.H_HOST_STOP, layout.H_STARTED_AT_NS):
        segment.header[word] = 0
    segment.report[layout.R_REGISTERED] = 0
    segment.report[layout.R_STATE] = layout.IDLE
    order = layout.PAGEBLOCK_ORDER if run.conditions.thp else 0
    segment.loads[PROCESS * layout.LOAD_WORDS + layout.L_ORDER] = order


def _stalls(segment: Segment) -> int:
    return segment.workers[CPU * layout.WORKER_WORDS + layout.W_COUNTERS + STALLS]


def _to_its_end(
    program: Generator[Want, Any, None], over: list[bool]
) -> Generator[Want, Any, None]:
    """A program, and a note that it has ended."""
    yield from program
    over.append(True)


def _stand_in(segment: Segment, window_ms: int, profile: Profile, calls: list[Call]) -> Worker:
    """The stand-in reporting device: its callback logs and sleeps."""
    clock = TickClock()
    extra_ticks = msleep_extra_ticks(profile)
    while True:
        request = yield AwaitReport()
        began_ns = ended_ns = yield Now()
        free = sum(_zone_words(segment, layout.Z_FREE_PAGES))
        if window_ms:
            ended_ns = msleep_ends_ns(clock, began_ns, window_ms, extra_ticks)
            yield Sleep(ended_ns)
        orders = _entry_orders(segment)
        pages = sum(1 << order for order in orders)
        calls.append(Call(began_ns, ended_ns, len(orders), pages, free))
        yield Answer(request, 0)


def _zone_words(segment: Segment, word: int) -> list[int]:
    return [segment.zones[z * layout.ZONE_WORDS + word] for z in range(segment.plan.zones)]


def _entry_orders(segment: Segment) -> list[int]:
    report = segment.report
    first = layout.R_ENTRIES + report[layout.R_START] * layout.ENTRY_WORDS + layout.E_ORDER
    return [report[first + n * layout.ENTRY_WORDS] for n in range(report[layout.R_COUNT])]
