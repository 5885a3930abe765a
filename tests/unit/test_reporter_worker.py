"""The reporter as a worker: states, delays, registration, failures, policies."""

import gzip
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.populate import plan_from_snapshot, populate_snapshot
from pagesoak.base import layout, statistics
from pagesoak.base.errors import HarnessError, InputError
from pagesoak.base.layout import ACTIVE, IDLE, ISOLATE, MOVABLE, REQUESTED
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import read_statistics
from pagesoak.base.timer_wheel import TickClock, timer_fires_ns
from pagesoak.reporter import cycle, policy
from pagesoak.reporter.cycle import drain_report, reporting_hold
from pagesoak.reporter.passes import POINTS, ReporterSettings
from pagesoak.reporter.policies import POLICIES, policy_by_name
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policies.off import Off
from pagesoak.reporter.policy import Hold, HoldView, ZoneView
from pagesoak.reporter.request import REQUESTS_MAX, submit_report
from pagesoak.reporter.state import register_device, unregister_device
from tests.reporting_driver import DELAY_NS, Call, Driver
from tests.zone_helper import REPORTER, Guest, ZonePlan, ample

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "tests" / "recordings"
FAR_NS = 1 << 62
O10 = 1 << 10
O9 = 1 << 9


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """Closes the guests of a test."""
    with ExitStack() as stack:
        yield stack


def make_guest(stack: ExitStack, *zones: ZonePlan) -> Guest:
    guest = Guest(*zones)
    stack.callback(guest.close)
    return guest


def guest_of_o10(stack: ExitStack, blocks: int) -> Guest:
    """Blocks 0, 1, 2 … of order 10 on the MOVABLE list, memory ample; room from block 80 on."""
    guest = make_guest(stack, ample(blocks + 120))
    guest.give_list(10, [number * O10 for number in range(blocks)])
    guest.give_small(33 * O9, blocks * O10)
    return guest


# ---- states and delays ----


def test_first_pass_after_the_delay(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    driver = Driver(guest).run()
    assert driver.states == [IDLE]
    assert driver.steps[:3] == ["register-device", "Sleep", "begin-pass"]
    assert len(driver.sleeps) == 1
    assert guest.report[layout.R_DELAY_NS] == DELAY_NS == 2_000_000_000


def test_a_free_in_idle_schedules_the_next_pass(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    driver = Driver(guest).run()
    assert guest.report[layout.R_STATE] == IDLE
    first = guest.report[layout.R_REQUESTED_AT_NS]
    guest.give(90 * O10, 10, flags=0)
    assert guest.report[layout.R_STATE] == REQUESTED
    requested = guest.report[layout.R_REQUESTED_AT_NS]
    assert requested > first
    guest.give(91 * O10, 10, flags=0)
    assert guest.report[layout.R_REQUESTED_AT_NS] == requested
    driver.run()
    assert driver.sleeps[1] == timer_fires_ns(TickClock(), requested, DELAY_NS)
    assert 0 < driver.sleeps[1] - requested - DELAY_NS <= 32_000_000
    assert driver.entries_by_pass() == [[3], [2]]


@pytest.mark.parametrize("order", [8, 9, 10])
def test_only_frees_of_reportable_order_request(guests: ExitStack, order: int) -> None:
    guest = guest_of_o10(guests, 1)
    Driver(guest).run()
    guest.give(90 * O10, order, flags=0)
    assert guest.report[layout.R_STATE] == (REQUESTED if order >= 9 else IDLE)


@pytest.mark.parametrize("point", POINTS)
def test_a_request_during_a_pass_is_not_lost(guests: ExitStack, point: str) -> None:
    guest = guest_of_o10(guests, 3)
    freed: list[int] = []

    def at_point(name: str) -> None:
        if name == point and not freed:
            assert guest.report[layout.R_STATE] == ACTIVE
            freed.append(guest.give(90 * O10, 10, flags=0))
            assert guest.report[layout.R_STATE] == REQUESTED

    driver = Driver(guest, at_point=at_point).run()
    assert freed == [10]
    assert driver.states == [REQUESTED, IDLE]
    assert sum(map(sum, driver.entries_by_pass())) == 4
    assert len(guest.reported(10)) == 4


def test_the_delay_counts_from_the_end_of_the_pass(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 65)
    answered: list[int] = []

    def answer(_call: Call) -> int:
        answered.append(time.monotonic_ns())
        return 0

    driver = Driver(guest, answer=answer).run()
    assert driver.states == [REQUESTED, IDLE]
    starts = [event["pass"] for event in guest.events("pass-start")]
    ends = guest.events("pass-end")
    assert starts == [1, 2]
    assert [(e["pass"], e["state"], e["calls"]) for e in ends] == [(1, REQUESTED, 2), (2, IDLE, 1)]
    first, second = driver.causes
    assert first < answered[0] < answered[1] < second < answered[2]


def test_passes_never_overlap(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 300)
    driver = Driver(guest, thorough=False).run()
    steps = [step for step in driver.steps if step in {"begin-pass", "end-pass"}]
    assert steps[::2] == ["begin-pass"] * (len(steps) // 2)
    assert all(a != b for a, b in pairwise(steps))
    assert guest.counter(statistics.PASSES) == len(driver.states)


def test_the_run_ends(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    driver = Driver(guest).run()
    guest.segment.header[layout.H_STOP] = 1
    assert driver.run().ended


# ---- a real kernel ----


class Recorded(NamedTuple):
    """A timeline of tests/recordings: report calls of each pass; page_reporting_order."""

    calls: list[int]
    order: int = 9


RECORDED = {
    "idle_d0": Recorded([2, 2]),
    "idle_d10": Recorded([2, 2]),
    "idle_d100": Recorded([2, 2]),
    "idle_m2048": Recorded([2, 2, 2, 2, 2, 2, 2, 1]),
    "idle_po5": Recorded([3, 3], order=5),
}


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_scatterlist(guests: ExitStack, name: str) -> None:
    """From the lists just after the device was loaded: each entry of each call, free memory."""
    snapshot = read_free_lists(RECORDINGS / name / "atload.free.gz")
    segment = Segment.create(plan_from_snapshot(snapshot, cpus=1))
    populate_snapshot(segment, snapshot)
    guest = Guest.of(segment)
    guests.callback(guest.close)
    zones = range(len(guest.plans))
    free_pages: list[int] = []

    def answer(_call: Call) -> int:
        free_pages.append(sum(guest.free_pages(zone) for zone in zones))
        return 0

    settings = ReporterSettings(len(zones), order=RECORDED[name].order)
    driver = Driver(guest, settings=settings, answer=answer, thorough=False).run()
    with gzip.open(RECORDINGS / name / "reports.csv.gz", "rt", encoding="ascii") as file:
        lines = [line.split(",") for line in file if not line.startswith("#")]
    expected = [
        [(int(pfn, 16), int(order)) for pfn, order in (e.split("/") for e in line[7].split())]
        for line in lines
    ]
    assert [call.entries for call in driver.calls] == expected
    assert free_pages == [int(line[5]) for line in lines]
    assert [len(calls) for calls in driver.entries_by_pass()] == RECORDED[name].calls


# ---- registration ----


def test_a_second_device_is_refused(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    Driver(guest).run()
    with pytest.raises(HarnessError, match="registered already"):
        Driver(guest).run()


def test_unregistering_ends_the_reporter_and_the_requests(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    driver = Driver(guest).run()
    assert unregister_device(guest.base) == 1
    assert unregister_device(guest.base) == 0
    guest.give(90 * O10, 10, flags=0)
    assert guest.report[layout.R_STATE] == IDLE
    assert driver.run().ended
    again = Driver(guest).run()
    assert again.entries_by_pass() == [[1]]


@pytest.mark.parametrize(
    ("given", "kept"), [(0, 32), (1, 1), (31, 31), (32, 32), (33, 32), (-1, 32)]
)
def test_capacity_of_the_device(guests: ExitStack, given: int, kept: int) -> None:
    guest = make_guest(guests, ample(1))
    assert register_device(guest.base, REPORTER, 9, given, DELAY_NS, -1, 0) == kept
    assert guest.report[layout.R_CAPACITY] == kept
    assert guest.report[layout.R_OFFSET] == 32
    guest.check()


@pytest.mark.parametrize("capacity", [1, 7, 31])
def test_a_smaller_device(guests: ExitStack, capacity: int) -> None:
    """It makes smaller reports and a lower gate, and its budget counts in its own capacity."""
    guest = make_guest(guests, ZonePlan(0, 200 << 10, 0, 1000, 2000))
    guest.give_list(10, [number * O10 for number in range(100)])
    settings = ReporterSettings(1, capacity=capacity)
    driver = Driver(guest, settings=settings).run(passes=1)
    allowed = -(-100 // (16 * capacity)) + 1
    in_visit = [len(call.entries) for call in driver.calls if call.in_visit]
    assert in_visit == [capacity] * min(allowed, 99 // capacity)
    driver.run()
    assert len(guest.reported(10)) == 100
    assert driver.states[-1] == IDLE


def test_the_gate_follows_the_capacity(guests: ExitStack) -> None:
    guest = make_guest(guests, ZonePlan(0, 200 << 10, 0, 1000, 2000))
    guest.give_list(10, [0, O10])
    driver = Driver(guest, settings=ReporterSettings(1, capacity=3)).run()
    assert guest.events("gate-closed") == [
        {"zone": 0, "free_pages": 2048, "needed_pages": 1000 + 3 * O9}
    ]
    assert driver.calls == []
    unregister_device(guest.base)
    driver = Driver(guest, settings=ReporterSettings(1, capacity=2)).run()
    assert driver.entries_by_pass() == [[1]]


# ---- failures ----


def test_every_second_list_allocation_fails(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 200)
    settings = ReporterSettings(1, list_allocation_fails_every=2)
    driver = Driver(guest, settings=settings).run()
    # the second pass was asked for by the budget; without a list it ends idle
    assert driver.entries_by_pass() == [[32, 32], []]
    assert driver.states == [REQUESTED, IDLE]
    assert guest.counter(statistics.LIST_ALLOCATIONS_FAILED) == 1
    assert guest.events("list-allocation-failed") == [{"pass": 2}]
    guest.give(300 * O10, 10, flags=0)
    driver.run()
    assert driver.entries_by_pass()[2:] == [[32, 32], []]


def test_an_error_then_a_free_reports_again(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 5)
    driver = Driver(guest, answer=lambda call: 0 if call.number else 5).run()
    assert driver.entries_by_pass() == [[5]]
    assert guest.reported(10) == []
    guest.give(90 * O10, 10, flags=0)
    driver.run()
    assert driver.entries_by_pass() == [[5], [6]]
    assert guest.events("answer")[0]["error"] == 5


def break_an_entry(guest: Guest, index: int) -> None:
    guest.report[layout.R_ENTRIES + index * layout.ENTRY_WORDS + layout.E_PFN] = 70 * O10


def clear_an_entry(guest: Guest, index: int) -> None:
    guest.report[layout.R_ENTRIES + index * layout.ENTRY_WORDS + layout.E_PFN] = -1


@pytest.mark.parametrize("harm", [break_an_entry, clear_an_entry])
@pytest.mark.parametrize("blocks", [5, 40])
def test_a_broken_scatterlist_is_a_bug_of_ours(guests: ExitStack, harm: Any, blocks: int) -> None:
    guest = guest_of_o10(guests, blocks)

    def answer(_call: Call) -> int:
        harm(guest, 31)
        return 0

    with pytest.raises(HarnessError, match="not isolated"):
        Driver(guest, answer=answer, thorough=False).run()


# ---- what it leaves for others to read ----


def test_figures_and_events_of_a_pass(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    free = guest.free_pages()
    requests: list[int] = []

    def answer(call: Call) -> int:
        requests.append(call.request)
        published = read_statistics(guest.segment, REPORTER)
        assert published.counters[statistics.REPORT_CALLS] == len(requests)
        return 0

    Driver(guest, answer=answer).run()
    figures = read_statistics(guest.segment, REPORTER)
    assert requests == [1, 2]
    assert figures.counters[statistics.REPORT_CALLS] == 2
    assert figures.counters[statistics.REPORTED_PAGES] == 40 * O10
    assert figures.counters[statistics.PASSES] == 1
    window = figures.histograms[statistics.WINDOW]
    assert window.observations == 2
    assert 0 < window.maximum <= window.total
    taken = [(e["entries"], e["pages"], e["free_pages"]) for e in guest.events("isolated")]
    assert taken == [(32, 32 * O10, free - 32 * O10), (8, 8 * O10, free - 8 * O10)]
    assert guest.events("report") == [
        {
            "request": request,
            "entries": entries,
            "pages": entries * O10,
            "free_pages": free - entries * O10,
            "isolated_pages": entries * O10,
        }
        for request, entries in ((1, 32), (2, 8))
    ]
    drained = [(e["request"], e["entries"], e["reported_pages"]) for e in guest.events("drained")]
    assert drained == [(1, 32, 32 * O10), (2, 8, 8 * O10)]
    assert guest.report[layout.R_REQUEST] == 0
    assert guest.report[layout.R_FIRST_ISOLATED_AT_NS] == 0


def test_page_owner_and_sequence_survive(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 2)
    record = O10 * layout.PAGE_WORDS
    stamp = layout.STAMPED | 77 << layout.OWNER_SHIFT
    guest.pages[record + layout.STATE] |= stamp
    guest.pages[record + layout.SEQUENCE] = 12_345

    def answer(_call: Call) -> int:
        assert guest.pages[record + layout.STATE] & layout.PAGE_MASK == stamp
        return 0

    Driver(guest, answer=answer).run()
    assert guest.reported(10) == [O10, 0]
    assert guest.pages[record + layout.STATE] & layout.PAGE_MASK == stamp
    assert guest.pages[record + layout.SEQUENCE] == 12_345


def test_request_numbers_fit_a_page_record(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    guest.segment.header[layout.H_REQUEST_SEQUENCE] = REQUESTS_MAX - 1
    driver = Driver(guest, thorough=False).run()
    assert [call.request for call in driver.calls] == [REQUESTS_MAX, 1]


def test_a_hold_is_one_critical_section(guests: ExitStack) -> None:
    """Fill, report and drain driven by hand, without the worker."""
    guest = guest_of_o10(guests, 3)
    register_device(guest.base, REPORTER, 9, 32, DELAY_NS, -1, 0)
    list_of = (REPORTER, 0, 10, MOVABLE)
    hold = reporting_hold(guest.base, *list_of, 2, policy.TAKE_ALL, 0, 2, 0, 0, 0, 0, 1, 0)
    assert hold == (cycle.REPORT_NOW, 10, MOVABLE, 30)
    assert submit_report(guest.base, REPORTER, 0) == (1, 30, 2)
    assert guest.report[layout.R_REQUEST] == 1
    guest.check()
    hold = reporting_hold(guest.base, *list_of, 2, policy.TAKE_ALL, 0, 2, 0, 0, 0, 0, 1, 0)
    # a budget of 0 allowed one report; one block is left
    assert hold == (cycle.BUDGET, 10, MOVABLE + 1, 32)
    assert guest.report[layout.R_STATE] == REQUESTED
    assert guest.listed(10) == [2 * O10, O10, 0]
    assert guest.reported(10) == [O10, 0]
    hold = reporting_hold(guest.base, *list_of, 2, policy.TAKE_ALL, 0, 2, 0, 0, 0, 0, 1, 0)
    assert hold == (cycle.LIST_DONE, 10, MOVABLE + 1, 31)
    assert submit_report(guest.base, REPORTER, 0) == (2, 31, 1)
    assert drain_report(guest.base, REPORTER, 0, 5, 0) == cycle.DEVICE_ERROR
    assert guest.reported(10) == [O10, 0]
    guest.check()


def test_one_call_visits_list_after_list_until_one_has_to_be_reported(guests: ExitStack) -> None:
    guest = make_guest(guests, ample(120))
    register_device(guest.base, REPORTER, 9, 32, DELAY_NS, -1, 0)
    for migratetype in range(3):
        guest.give_list(9, [(10 * migratetype + n) * O10 for n in range(3)], migratetype)
    hold = (4, policy.TAKE_ALL, 0, 4, 0, 0, 0, 0)

    def visit(migratetype: int, lists: int, until_ns: int) -> tuple[int, ...]:
        list_of = (REPORTER, 0, 9, migratetype)
        return reporting_hold(guest.base, *list_of, *hold, lists, until_ns)

    # the time is up after the first visit; one list is one list, however much time is left
    assert visit(0, 3, 0) == (cycle.LIST_DONE, 9, 1, 29)
    assert visit(3, 1, FAR_NS) == (cycle.LIST_DONE, 9, 4, 29)
    # one block of the second list fits, the next must wait for a report
    assert visit(1, 3, FAR_NS) == (cycle.REPORT_NOW, 9, 1, 28)
    assert submit_report(guest.base, REPORTER, 0) == (1, 28, 4)
    # with an end to the budget the visit is over, and the third list begins
    assert visit(1, 2, FAR_NS) == (cycle.LIST_DONE, 9, 3, 29)
    # isolating has made all page blocks movable
    assert [len(guest.listed(9, migratetype)) for migratetype in range(3)] == [0, 6, 0]
    guest.check()


def test_one_call_goes_on_from_the_lists_of_an_order_to_those_of_the_next(
    guests: ExitStack,
) -> None:
    guest = make_guest(guests, ample(120))
    register_device(guest.base, REPORTER, 9, 32, DELAY_NS, -1, 0)
    guest.give_list(9, [2 * O10, 4 * O10], MOVABLE)
    guest.give_list(10, [6 * O10, 7 * O10], MOVABLE)
    guest.give_small(1024, 20 * O10)  # stays free, as the last block's watermark wants it
    hold = (32, policy.TAKE_ALL, 0, 32, 0, 0, 0, 0)

    def visit(order: int, migratetype: int, lists: int, until_ns: int) -> tuple[int, ...]:
        list_of = (REPORTER, 0, order, migratetype)
        return reporting_hold(guest.base, *list_of, *hold, lists, until_ns)

    # the time is up between two orders
    assert visit(9, 0, ISOLATE, FAR_NS) == (cycle.LIST_DONE, 9, ISOLATE, 30)
    assert visit(9, ISOLATE - 1, ISOLATE + 1, 0) == (cycle.LIST_DONE, 10, 0, 30)
    assert visit(9, ISOLATE - 1, ISOLATE + 1, FAR_NS) == (cycle.LIST_DONE, 10, ISOLATE, 28)
    assert [guest.listed(order) for order in (9, 10)] == [[], []]
    guest.check()


# ---- policies ----


def test_policies_by_name() -> None:
    assert policy_by_name("mainline") == Mainline()
    assert policy_by_name("off") == Off()
    assert [*POLICIES] == [
        "off",
        "mainline",
        "driver-capacity",
        "order-threshold",
        "halving",
        "reserve",
        "headroom",
    ]
    with pytest.raises(
        InputError, match=r"^policy: no policy named 'main'; known are driver-capacity, halving, "
    ):
        policy_by_name("main")


def test_policies_are_listed_without_the_core() -> None:
    program = "import sys, pagesoak.reporter.policies; print({'numba', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == [b"set()"]


def test_off_registers_no_device(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    driver = Driver(guest, policy=Off()).run()
    assert driver.ended
    assert driver.steps == []
    guest.give(90 * O10, 10, flags=0)
    assert guest.report[layout.R_STATE] == IDLE
    assert guest.report[layout.R_NOTIFY_SEQUENCE] == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"capacity": 0}, "policy.capacity: 0 is not a whole number from 1 to 32"),
        ({"capacity": 33}, "policy.capacity: 33 is"),
        ({"capacity": 1.5}, "policy.capacity: 1.5 is"),
        ({"capacity": True}, "policy.capacity: True is"),
        ({"capacity": 1, "take": -1}, "policy.take: -1 is"),
        ({"capacity": 1, "budget": -2}, "policy.budget: -2 is"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Hold(**values)
    assert str(caught.value).startswith(message)


def test_a_policy_knows_the_list_it_decides_about() -> None:
    assert policy.CAPACITY_MAX == layout.REPORTING_CAPACITY


@dataclass(frozen=True)
class Scripted:
    """A policy of a test: the same hold for each order, views kept."""

    holds: dict[int, Hold]
    zone_views: list[ZoneView]
    hold_views: list[tuple[int, HoldView]]
    skip: frozenset[int] = frozenset()
    name: str = "scripted"
    source: str = "a test"
    registers_device: bool = True

    def at_zone(self, view: ZoneView) -> Any:
        """The number of the zone, or None for those to be left out."""
        self.zone_views.append(view)
        return None if view.zone in self.skip else view.zone

    def at_hold(self, order: int, view: HoldView, context: Any) -> Hold:
        """What the script says for this order."""
        assert context == view.zone
        self.hold_views.append((order, view))
        return self.holds[order]


def test_a_policy_is_shown_the_zone(guests: ExitStack) -> None:
    guest = make_guest(guests, ZonePlan(0, 100 << 10, 11, 22, 33))
    guest.give_list(10, [number * O10 for number in range(40)])
    guest.set_word(0, layout.Z_BOOST, 7)
    guest.set_word(0, layout.Z_RESERVED_HIGHATOMIC, 5)
    scripted = Scripted({9: Hold(32), 10: Hold(32)}, [], [])
    Driver(guest, policy=scripted).run(passes=1)
    assert scripted.zone_views == [ZoneView(0, 9, 32, 100 << 10, 40 << 10, 0, 0, 5, 11, 22, 33, 7)]
    movable = [view for order, view in scripted.hold_views if (order, view.migratetype) == (10, 1)]
    first, second = movable
    blocks = (0,) * 10
    zone = {
        "managed_pages": 100 << 10,
        "min_pages": 11,
        "low_pages": 22,
        "high_pages": 33,
        "boost_pages": 7,
        "reserved_pages": 5,
    }
    shown = HoldView(0, MOVABLE, 32, 40 << 10, 0, 40, 0, blocks=(*blocks, 40), **zone)
    assert first == shown
    # asked again after the report, before its blocks are back
    assert second == HoldView(
        0,
        MOVABLE,
        32,
        8 << 10,
        32 << 10,
        8,
        32,
        32 << 10,
        reported=True,
        blocks=(*blocks, 8),
        **zone,
    )


def test_take_ends_the_visit_and_asks_for_nothing(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    scripted = Scripted({9: Hold(32), 10: Hold(32, take=5)}, [], [])
    driver = Driver(guest, policy=scripted).run()
    assert driver.entries_by_pass() == [[5]]
    assert driver.states == [IDLE]
    # the block it stopped at is the first now
    assert guest.listed(10)[0] == 5 * O10
    assert len(guest.reported(10)) == 5


def test_take_nothing(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    scripted = Scripted({9: Hold(32), 10: Hold(32, take=0)}, [], [])
    assert Driver(guest, policy=scripted).run().entries_by_pass() == [[]]


def test_take_is_per_hold(guests: ExitStack) -> None:
    """A full list is reported also if `take` is used up just then; the next hold has its own."""
    guest = guest_of_o10(guests, 40)
    scripted = Scripted({9: Hold(8), 10: Hold(8, take=8, budget=2)}, [], [])
    driver = Driver(guest, policy=scripted).run(passes=1)
    assert driver.entries_by_pass() == [[8, 8, 8]]
    assert driver.states == [REQUESTED]


def test_budget_of_a_policy(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    scripted = Scripted({9: Hold(32), 10: Hold(4, budget=3)}, [], [])
    driver = Driver(guest, policy=scripted).run()
    assert driver.entries_by_pass() == [[4] * 4, [4] * 4, [4] * 2]


def test_flush_before_keeps_orders_apart(guests: ExitStack) -> None:
    guest = make_guest(guests, ample(200))
    guest.give_list(9, [number * O10 for number in range(20)])
    guest.give_list(10, [(40 + number) * O10 for number in range(20)])
    guest.give_small(5000, 100 * O10)
    scripted = Scripted({9: Hold(32), 10: Hold(16, flush_before=True)}, [], [])
    driver = Driver(guest, policy=scripted).run()
    calls = [({order for _, order in call.entries}, len(call.entries)) for call in driver.calls]
    assert calls == [({9}, 20), ({10}, 16), ({10}, 4)]
    assert [call.in_visit for call in driver.calls] == [False, True, False]


def test_a_flush_that_fails_ends_the_pass(guests: ExitStack) -> None:
    guest = make_guest(guests, ample(200))
    guest.give_list(9, [number * O10 for number in range(20)])
    guest.give_list(10, [(40 + number) * O10 for number in range(20)])
    scripted = Scripted({9: Hold(32), 10: Hold(16, flush_before=True)}, [], [])
    driver = Driver(guest, policy=scripted, answer=lambda _: 5).run()
    assert driver.entries_by_pass() == [[20]]
    assert guest.isolated_pages() == 0


def test_a_smaller_capacity_while_more_is_pending(guests: ExitStack) -> None:
    """The pending entries stay where they are and go out with the next full list."""
    guest = make_guest(guests, ample(200))
    guest.give_list(9, [number * O10 for number in range(20)])
    guest.give_list(10, [(40 + number) * O10 for number in range(20)])
    guest.give_small(5000, 100 * O10)
    scripted = Scripted({9: Hold(32), 10: Hold(16)}, [], [])
    driver = Driver(guest, policy=scripted).run()
    assert driver.entries_by_pass()[0] == [20, 16]
    assert [order for _, order in driver.calls[0].entries] == [9] * 20


def test_a_policy_may_leave_a_zone_out(guests: ExitStack) -> None:
    guest = make_guest(guests, ZonePlan(0, 40 << 10), ZonePlan(40 << 10, 80 << 10))
    for zone in range(2):
        guest.give_list(10, [(40 * zone + number) * O10 for number in range(20)])
        guest.give_small(100, (40 * zone + 30) * O10)
    scripted = Scripted({9: Hold(32), 10: Hold(32)}, [], [], skip=frozenset({0}))
    driver = Driver(guest, policy=scripted).run()
    assert [(call.zone, len(call.entries)) for call in driver.calls] == [(1, 20)]


def test_zones_do_not_share_a_scatterlist(guests: ExitStack) -> None:
    guest = make_guest(guests, ZonePlan(0, 40 << 10), ZonePlan(40 << 10, 80 << 10))
    for zone in range(2):
        guest.give_list(10, [(40 * zone + number) * O10 for number in range(20)])
        guest.give_small(100, (40 * zone + 30) * O10)
    driver = Driver(guest).run()
    assert [(call.zone, len(call.entries)) for call in driver.calls] == [(0, 20), (1, 20)]
