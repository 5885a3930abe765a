"""The virtual driver: who goes on, when, and how a run ends."""

from collections.abc import Iterator

import pytest

from pagesoak.base import layout
from pagesoak.base.clock import worker_now_ns
from pagesoak.base.costs import NO_COSTS, Costs
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_virtual import H_YIELD, W_CLOCK_NS
from pagesoak.base.lock import give_zone_lock, take_zone_lock
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import LOCK_HOLD, LOCK_WAIT, LOCK_WAITS, read_statistics
from pagesoak.base.wants import (
    Answer,
    AwaitPass,
    AwaitReport,
    Barrier,
    Now,
    Report,
    Run,
    Sleep,
    Worker,
    YieldPoint,
)
from pagesoak.engine.virtual import BURST_NS, LEAD_NS, START_MULTIPLE_NS, VirtualDriver

CPUS = 2
REPORTER, HOST = CPUS, CPUS + 1
Log = list[tuple[str, int]]
LOG_LENGTH = 5


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(SegmentPlan(1, CPUS, 1024, CPUS + 3, 0, 0, 0))
    yield made
    made.close()


def sleeper(log: Log, name: str, *deadlines_ns: int) -> Worker:
    """Not a guest: notes when each of its sleeps ends, on the soak's clock."""
    start_ns = yield Now()
    for deadline_ns in deadlines_ns:
        now_ns = yield Sleep(start_ns + deadline_ns)
        log.append((name, now_ns - start_ns))


def test_whoever_is_first_in_time_goes_on(segment: Segment) -> None:
    log: Log = []
    workers = {REPORTER: sleeper(log, "a", 10, 40, 50), HOST: sleeper(log, "b", 20, 30, 60)}
    driver = VirtualDriver(segment, workers, costs=NO_COSTS)
    assert driver.start()
    assert driver.run(driver.started_ns + 100)
    assert log == [("a", 10), ("b", 20), ("b", 30), ("a", 40), ("a", 50), ("b", 60)]
    assert driver.now_ns == driver.started_ns + 100


def test_who_is_due_at_the_same_time_goes_on_as_they_came_to_be_due(segment: Segment) -> None:
    log: Log = []
    workers = {HOST: sleeper(log, "b", 10, 30), REPORTER: sleeper(log, "a", 10, 30)}
    driver = VirtualDriver(segment, workers, costs=NO_COSTS)
    driver.run(START_MULTIPLE_NS * 2)
    assert log == [("a", 10), ("b", 10), ("a", 30), ("b", 30)]


def test_a_jump_of_the_guests_clock_is_not_one_of_the_hosts(segment: Segment) -> None:
    log: Log = []
    workers = {REPORTER: sleeper(log, "a", 10, 12, 40), HOST: sleeper(log, "b", 20, 30)}
    driver = VirtualDriver(segment, workers, costs=NO_COSTS)
    driver.run(START_MULTIPLE_NS + 5)
    driver.jump(30)
    driver.jump(10)  # within the first
    driver.run(driver.started_ns + 100)
    assert log == [("b", 20), ("b", 30), ("a", 35), ("a", 35), ("a", 40)]


def test_an_answer_that_comes_in_a_jump_is_seen_after_it(segment: Segment) -> None:
    seen: Log = []

    def reporter() -> Worker:
        start_ns = yield Now()
        segment.report[layout.R_REQUEST] = 1
        error = yield Report(1, 0, 1)
        seen.append((f"answer {error}", (yield Now()) - start_ns))

    def host() -> Worker:
        start_ns = yield Now()
        request = yield AwaitReport()
        yield Sleep(start_ns + 10)
        seen.append(("served", (yield Now()) - start_ns))
        yield Answer(request, 7)

    driver = VirtualDriver(segment, {REPORTER: reporter(), HOST: host()}, costs=NO_COSTS)
    driver.run(START_MULTIPLE_NS + 5)
    driver.jump(1_000)
    driver.run(driver.started_ns + 2_000)
    assert seen == [("served", 10), ("answer 7", 1_005)]


def test_a_run_ends_before_what_is_due_at_its_end(segment: Segment) -> None:
    log: Log = []
    driver = VirtualDriver(segment, {REPORTER: sleeper(log, "a", 10, 20)}, costs=NO_COSTS)
    driver.start()
    driver.run(driver.started_ns + 20)
    assert log == [("a", 10)]
    driver.run(driver.started_ns + 21)
    assert log == [("a", 10), ("a", 20)]


def works(base: int, worker: int, time_ns: int, until_ns: int) -> int:
    """A burst without operations: its worker's clock moves, at most to `until_ns`."""
    place = worker * layout.WORKER_WORDS + W_CLOCK_NS
    segment = SEGMENTS[base]
    segment.workers[place] = min(segment.workers[place] + time_ns, until_ns)
    return until_ns - segment.workers[place]


SEGMENTS: dict[int, Segment] = {}


def test_guests_start_one_after_the_other_and_the_clock_at_a_whole_second(
    segment: Segment,
) -> None:
    SEGMENTS[segment.base] = segment
    log: Log = []

    def guest(cpu: int) -> Worker:
        began_ns = yield Now()
        yield Run("work", works, (cpu, 700_000_000))
        while (yield Now()) < began_ns + 700_000_000:
            yield Run("work", works, (cpu, 1_000_000))
        log.append((f"ready {cpu}", (yield Now())))
        start_ns = yield Barrier()
        log.append((f"start {cpu}", start_ns))

    driver = VirtualDriver(segment, {0: guest(0), 1: guest(1)}, costs=NO_COSTS)
    assert driver.start()
    assert driver.started_ns == segment.header[layout.H_STARTED_AT_NS] == 2_000_000_000
    driver.run(driver.started_ns + 1)
    assert log == [
        ("ready 0", 700_000_000),
        ("ready 1", 1_400_000_000),
        ("start 0", 2_000_000_000),
        ("start 1", 2_000_000_000),
    ]


def test_bursts_end_at_the_next_moment_of_another_and_leads_are_bounded(segment: Segment) -> None:
    SEGMENTS[segment.base] = segment
    untils: list[int] = []

    def burst(base: int, cpu: int, until_ns: int) -> int:
        untils.append(until_ns)
        return works(base, cpu, 1 << 50, until_ns)

    def busy(cpu: int) -> Worker:
        yield Barrier()
        while True:
            yield Run("burst", burst, (cpu,))

    def other() -> Worker:
        now_ns = yield Now()
        yield Sleep(now_ns + 30)
        yield Sleep(now_ns + LEAD_NS + 7)

    driver = VirtualDriver(segment, {0: busy(0), 1: busy(1), REPORTER: other()}, costs=NO_COSTS)
    driver.start()
    start_ns = driver.started_ns
    driver.run(start_ns + 3 * LEAD_NS)
    assert untils[0] == start_ns + 30, "the reporter's moment binds guests without a lead"
    assert untils[:2] == [start_ns + 30] * 2
    assert start_ns + LEAD_NS + 7 in untils
    assert max(untils) == start_ns + 3 * LEAD_NS

    alone = Segment.create(SegmentPlan(1, 1, 1024, 4, 0, 0, 0))
    SEGMENTS[alone.base] = alone
    untils.clear()
    driver = VirtualDriver(alone, {0: busy(0)}, costs=NO_COSTS)
    driver.run(1 << 40)
    assert untils[:2] == [driver.started_ns + BURST_NS, driver.started_ns + 2 * BURST_NS]
    driver.close()
    alone.close()


def test_a_lock_is_a_stretch_of_time(segment: Segment) -> None:
    """A worker whose clock lies in it waits to its end; one before it was there first."""
    base = segment.base
    driver = VirtualDriver(segment, {}, costs=NO_COSTS._replace(lock_ns=5))
    clocks = segment.workers

    def clock(worker: int) -> int:
        return worker * layout.WORKER_WORDS + W_CLOCK_NS

    for place, (before_ns, after_ns) in enumerate(
        ((-1, -1), (0, 500), (499, 500), (500, 500)), start=1
    ):
        since_ns = place * 10_000
        clocks[clock(REPORTER)] = since_ns
        take_zone_lock(base, 0, REPORTER)
        clocks[clock(REPORTER)] += 495
        give_zone_lock(base, 0, REPORTER)
        assert worker_now_ns(base, REPORTER) == since_ns + 500
        clocks[clock(0)] = since_ns + before_ns
        take_zone_lock(base, 0, 0)
        assert worker_now_ns(base, 0) == since_ns + after_ns
        give_zone_lock(base, 0, 0)
    driver.publish()
    found = read_statistics(segment, 0)
    assert found.counters[LOCK_WAITS] == 2
    assert found.histograms[LOCK_WAIT].total == 500 + 1
    assert found.histograms[LOCK_HOLD].total == 4 * 5
    assert read_statistics(segment, REPORTER).histograms[LOCK_HOLD].total == 4 * 500


def reporter(log: Log, segment: Segment) -> Worker:
    """Two report calls, as often as a pass is asked for."""
    while True:
        now_ns = yield AwaitPass()
        log.append(("pass", now_ns))
        for request in (1, 2):
            segment.report[layout.R_REQUEST] = request
            error = yield Report(request, 0, 1)
            log.append((f"answer {request}: {error}", (yield Now())))
            segment.report[layout.R_REQUEST] = 0
        yield YieldPoint("before-end")
        segment.report[layout.R_STATE] = layout.IDLE


def host(log: Log, latency_ns: int) -> Worker:
    while True:
        request = yield AwaitReport()
        now_ns = yield Now()
        log.append((f"request {request}", now_ns))
        yield Sleep(now_ns + latency_ns)
        yield Answer(request, request * 10)


def ask(segment: Segment, at_ns: int) -> Worker:
    """Asks for a pass at a time of the soak's clock."""

    def request(base: int, until_ns: int) -> None:
        del base, until_ns
        segment.report[layout.R_STATE] = layout.REQUESTED

    start_ns = yield Barrier()
    yield Sleep(start_ns + at_ns)
    segment.report[layout.R_REQUESTED_AT_NS] = start_ns + at_ns
    segment.header[H_YIELD] = 1
    yield Run("request", request, ())


def test_a_pass_its_reports_and_what_waking_takes(segment: Segment) -> None:
    log: Log = []
    workers = {0: ask(segment, 100), REPORTER: reporter(log, segment), HOST: host(log, 50)}
    driver = VirtualDriver(segment, workers, costs=NO_COSTS._replace(wake_up_ns=3))
    driver.start()
    driver.run(driver.started_ns + 1000)
    seen = [(what, time_ns - driver.started_ns) for what, time_ns in log]
    assert seen == [
        ("pass", 100),
        ("request 1", 103),
        ("answer 1: 10", 156),
        ("request 2", 159),
        ("answer 2: 20", 212),
    ]


def test_the_end_waits_for_the_pass(segment: Segment) -> None:
    log: Log = []
    workers = {0: ask(segment, 10), REPORTER: reporter(log, segment), HOST: host(log, 10**9)}
    driver = VirtualDriver(segment, workers, costs=NO_COSTS)
    driver.start()
    driver.run(driver.started_ns + 20)
    assert [what for what, _ in log] == ["pass", "request 1"]
    driver.finish()
    assert log[-1] == ("answer 2: 20", driver.started_ns + 10 + 2 * 10**9)
    assert segment.header[layout.H_STOP] == segment.header[layout.H_HOST_STOP] == 1


def test_a_reporter_without_a_host_is_named(segment: Segment) -> None:
    workers = {0: ask(segment, 10), REPORTER: reporter([], segment)}
    driver = VirtualDriver(segment, workers, costs=NO_COSTS)
    driver.start()
    driver.run(driver.started_ns + 20)
    with pytest.raises(HarnessError, match="an answer that does not come"):
        driver.finish()
    driver.close()


def test_who_wants_to_stop_stops_at_the_next_turn(segment: Segment) -> None:
    log: Log = []
    workers = {
        REPORTER: sleeper(log, "a", *range(0, 999, 2)),
        HOST: sleeper(log, "b", *range(999)),
    }
    driver = VirtualDriver(
        segment, workers, costs=NO_COSTS, stopping=lambda: len(log) >= LOG_LENGTH
    )
    driver.start()
    assert not driver.run(driver.started_ns + 1000)
    assert LOG_LENGTH <= len(log) < 2 * LOG_LENGTH
    driver.finish()

    never = VirtualDriver(segment, {0: ask(segment, 1)}, stopping=lambda: True)
    assert not never.run(1000)
    assert never.started_ns == 0
    never.finish()


def test_what_a_worker_raises_comes_out(segment: Segment) -> None:
    def fails() -> Worker:
        yield Barrier()
        raise HarnessError("of a worker")

    driver = VirtualDriver(segment, {0: fails()}, costs=NO_COSTS)
    with pytest.raises(HarnessError, match="of a worker"):
        driver.run(1 << 40)
    driver.close()


def test_touched_pages_need_content_words(segment: Segment) -> None:
    segment.header[layout.H_TOUCH] = 1
    with pytest.raises(HarnessError, match="content word"):
        VirtualDriver(segment, {}, costs=Costs())
