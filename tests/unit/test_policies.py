"""The policies of the discussion of 2021, by the IDs of docs/model.md: F, P4, A, B, ST and S12."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from pagesoak.allocator.buddy import count_free_pages, rmqueue_smallest
from pagesoak.base import layout
from pagesoak.base.layout import IDLE, MOVABLE, RECLAIMABLE, REQUESTED, UNMOVABLE, open_core
from pagesoak.base.layout_reporting import R_FACTOR
from pagesoak.base.native import entry
from pagesoak.reporter.cycle import budget_of
from pagesoak.reporter.factor import factor_threshold, pending_estimate, set_reporting_factor
from pagesoak.reporter.guard import PolicyError
from pagesoak.reporter.passes import AFTER_GATE, AFTER_ISOLATE, ReporterSettings
from pagesoak.reporter.policies import POLICIES, policy_by_name
from pagesoak.reporter.policies.bounds import entries_of_order, most_pages
from pagesoak.reporter.policies.halving import hold_of_order
from pagesoak.reporter.policies.order_threshold import capacity_at, order_threshold
from pagesoak.reporter.policy import Hold, HoldView, Policy, ZoneView
from tests.reporting_driver import Call, Driver
from tests.zone_helper import DMA, DMA32, REPORTER, Guest, ZonePlan

O9, O10 = 1 << 9, 1 << 10
ZONE = 1
"""DMA32."""
LOW_7358 = DMA32._replace(min_pages=5887, low_pages=7358, high_pages=8829)
"""WM-2: THP switched on."""
LOW_13862 = ZonePlan(12_288, 258_048, 11_090, 13_862, 16_634)
"""WM-4: 1 GiB with THP."""


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """Closes the guests of a test."""
    with ExitStack() as stack:
        yield stack


def guest_of(
    stack: ExitStack, o9: int = 0, o10: int = 0, small: int = 0, zone: ZonePlan = DMA32
) -> Guest:
    """Free blocks of order 9 (each in a block of order 10 of its own) and 10, the rest small."""
    guest = Guest(DMA, zone)
    stack.callback(guest.close)
    start = zone.start_pfn
    guest.give_list(9, [start + number * O10 for number in range(o9)])
    guest.give_list(10, [start + (o9 + number) * O10 for number in range(o10)])
    if small:
        guest.give_small(small, start + (o9 + o10) * O10)
    return guest


def of_order_10(stack: ExitStack, free_pages: int) -> Guest:
    """So many free pages, in blocks of order 10 as far as they go."""
    return guest_of(stack, o10=free_pages // O10, small=free_pages % O10)


def of_order_9(stack: ExitStack, free_pages: int) -> Guest:
    """The same in blocks of order 9."""
    return guest_of(stack, o9=free_pages // O9, small=free_pages % O9)


def batch(call: Call) -> str:
    """The blocks of a call, as the tables of the model write them: `5 o9 + 11 o10`."""
    orders = [order for _, order in call.entries]
    return " + ".join(f"{orders.count(order)} o{order}" for order in sorted({*orders}))


def batches(driver: Driver) -> list[list[str]]:
    """Pass by pass."""
    passes: list[list[str]] = [[] for _ in driver.states]
    for call in driver.calls:
        passes[call.pass_number].append(batch(call))
    return passes


def run(guest: Guest, policy: str, **more: Any) -> Driver:
    return Driver(guest, policy=policy_by_name(policy), **more).run()


def zone_view(free_pages: int, low_pages: int = 847, boost: int = 0, capacity: int = 32) -> Any:
    return ZoneView(1, 9, capacity, 118_784, free_pages, 0, 0, 0, 678, low_pages, 1016, boost)


# ---- order-threshold ----


class Window(NamedTuple):
    """One batch, what is free in its window, and the marks of the zone."""

    free_pages: int
    batch: str
    left: int
    zone: ZonePlan = DMA32
    policy: str = "order-threshold"


P4_WINDOWS = {
    "P4-1": Window(25_600, "16 o10", 9_216),
    "P4-1 low 7358": Window(25_600, "16 o10", 9_216, LOW_7358),
    "P4-2 33614": Window(33_614, "16 o10", 17_230),
    "P4-2 33615": Window(33_615, "32 o10", 847),
    "P4-3": Window(17_232, "16 o10", 848),
    "P4-3 mainline": Window(17_232, "16 o10", 848, policy="mainline"),
}


@pytest.mark.parametrize("case", P4_WINDOWS.values(), ids=P4_WINDOWS.keys())
def test_first_window_of_order_threshold(guests: ExitStack, case: Window) -> None:
    free = case.free_pages
    guest = guest_of(guests, o10=free // O10, small=free % O10, zone=case.zone)
    driver = Driver(guest, policy=policy_by_name(case.policy)).run(passes=1)
    first = driver.calls[0]
    assert (batch(first), first.free_pages) == (case.batch, case.left)


@pytest.mark.parametrize("free_pages", [25_600], ids=["P4-1 low 13862"])
def test_the_mails_example_on_a_guest_with_huge_pages(guests: ExitStack, free_pages: int) -> None:
    driver = run(guest_of(guests, o10=free_pages // O10, zone=LOW_13862), "order-threshold")
    assert driver.calls == []


@pytest.mark.parametrize("free_pages", [25_600], ids=["P4-1"])
def test_the_mails_example(free_pages: int) -> None:
    """100 MiB free in one zone: 32 entries at order 9, 16 at order 10, for low up to 9216."""
    threshold = order_threshold(zone_view(free_pages))
    assert threshold == 10
    assert [capacity_at(order, threshold, 32) for order in (9, 10)] == [32, 16]
    assert order_threshold(zone_view(free_pages, low_pages=9216)) == 10
    assert order_threshold(zone_view(free_pages, low_pages=9217)) == 9
    assert order_threshold(zone_view(free_pages, low_pages=9215, boost=2)) == 9


@pytest.mark.parametrize(
    ("room", "threshold", "capacities"),
    [(16_383, 9, [16, 8]), (16_384, 10, [32, 16]), (32_767, 10, [32, 16]), (32_768, 11, [32, 32])],
)
def test_threshold_and_capacities(room: int, threshold: int, capacities: list[int]) -> None:
    assert order_threshold(zone_view(847 + room)) == threshold
    assert [capacity_at(order, threshold, 32) for order in (9, 10)] == capacities


@pytest.mark.parametrize("capacity", range(1, 33))
def test_every_capacity_keeps_an_entry(capacity: int) -> None:
    for free_pages in (0, 17_232, 33_614, 33_615, 100_000):
        threshold = order_threshold(zone_view(free_pages, capacity=capacity))
        assert all(1 <= capacity_at(order, threshold, capacity) <= capacity for order in (9, 10))


class Mixed(NamedTuple):
    """Blocks, the batches pass by pass, and the least that was free."""

    policy: str
    o9: int
    o10: int
    small: int
    passes: list[list[str]]
    least: int | None = None


MIXED = {
    "P4-4": Mixed("order-threshold", 20, 20, 0, [["20 o9", "16 o10", "4 o10"]], 14_336),
    "P4-4 mainline": Mixed("mainline", 20, 20, 0, [["20 o9 + 12 o10", "8 o10"]], 8_192),
    "P4-6": Mixed(
        "order-threshold", 10, 27, 1232, [["10 o9 + 22 o10", "5 o10"]], 34_000 - 5_120 - 22_528
    ),
    "A-2 mainline": Mixed("mainline", 0, 100, 0, [["32 o10", "32 o10"], ["32 o10", "4 o10"]]),
    "A-2 div": Mixed(
        "halving", 0, 100, 0, [*[["16 o10", "16 o10"]] * 3, ["4 o10"]], 100 * 1024 - 16_384
    ),
    "A-2 shift": Mixed(
        "halving:budget=shift", 0, 100, 0, [["16 o10"] * 3, ["16 o10"] * 3, ["4 o10"]]
    ),
    "A-3 div": Mixed("halving", 0, 33, 0, [["16 o10", "16 o10"], ["1 o10"]]),
    "A-3 shift": Mixed("halving:budget=shift", 0, 33, 0, [["16 o10", "16 o10", "1 o10"]]),
    "A-4": Mixed("halving", 20, 20, 0, [["20 o9", "16 o10", "4 o10"]], 14_336),
    "A-4 shift": Mixed("halving:budget=shift", 20, 20, 0, [["20 o9", "16 o10", "4 o10"]]),
    "B-1 B-9 div": Mixed("reserve", 20, 20, 0, [["20 o9", "16 o10"], ["4 o10"]], 14_336),
    "B-9 shift": Mixed("reserve:budget=shift", 20, 20, 0, [["20 o9", "16 o10", "4 o10"]]),
    "B-2": Mixed("reserve", 14, 20, 0, [["14 o9 + 2 o10", "16 o10"], ["2 o10"]], None),
    "B-3": Mixed("reserve", 20, 0, 17_000, [["20 o9"]], 17_000),
    "B-8": Mixed("reserve", 0, 40, 0, [["16 o10", "16 o10"], ["8 o10"]], 24 * 1024),
    "B-10 div": Mixed("reserve", 5, 40, 0, [["5 o9 + 11 o10", "16 o10"], ["13 o10"]]),
    "B-10 shift": Mixed("reserve:budget=shift", 5, 40, 0, [["5 o9 + 11 o10", "16 o10", "13 o10"]]),
}


@pytest.mark.parametrize("case", MIXED.values(), ids=MIXED.keys())
def test_batches(guests: ExitStack, case: Mixed) -> None:
    guest = guest_of(guests, case.o9, case.o10, case.small)
    driver = run(guest, case.policy)
    assert batches(driver) == case.passes
    assert driver.states == [REQUESTED] * (len(case.passes) - 1) + [IDLE]
    assert len(guest.reported(9, zone=ZONE)) == case.o9
    assert len(guest.reported(10, zone=ZONE)) == case.o10
    if case.least is not None:
        assert min(call.free_pages for call in driver.calls) == case.least


@pytest.mark.parametrize("policy", ["order-threshold", "halving"], ids=["P4-5 P4", "P4-5 A"])
def test_every_part_of_the_array_ends_at_its_last_entry(guests: ExitStack, policy: str) -> None:
    """Pang's end marker: the driver asserts after every step that it stands at 31 alone."""
    driver = run(guest_of(guests, 20, 20), policy)
    assert driver.steps.count("init-last-entries") == 2
    assert [batch(call) for call in driver.calls] == ["20 o9", "16 o10", "4 o10"]


def test_a_threshold_worked_out_again_would_lose_what_is_pending(guests: ExitStack) -> None:
    """P4-6: nobody but the reporter is there; the pass is stopped, and nothing is lost."""
    guest = guest_of(guests, 10, 27, 1232)
    assert guest.free_pages(ZONE) == 34_000
    driver = Driver(guest, policy=policy_by_name("order-threshold:threshold=each-order"))
    said = "at_order: initialise = 16 with 10 blocks pending: 5120 pages would be lost"
    with pytest.raises(PolicyError, match=said):
        driver.run()
    assert guest.isolated_pages() == 0
    guest.check()
    assert [batch(call) for call in driver.calls] == ["10 o9"]
    assert driver.states == [IDLE]


def test_a_threshold_worked_out_again_where_it_does_not_matter(guests: ExitStack) -> None:
    """With fewer blocks free the threshold is 10 from the start, and order 9 is flushed."""
    driver = run(guest_of(guests, 10, 20, 1232), "order-threshold:threshold=each-order")
    assert batches(driver) == [["10 o9", "16 o10", "4 o10"]]


# ---- a stale threshold ----


@entry
def take_page(base: int, zone: int) -> int:
    """A page for a user, without a watermark test; returns its number."""
    core = open_core(base)
    pfn = rmqueue_smallest(core, zone, 0, MOVABLE)
    count_free_pages(core, zone, -1)
    return pfn


def user_takes(guest: Guest, pages: int) -> Callable[[Call], int]:
    """An answer of the host: in the first window a user takes so many pages."""

    def answer(call: Call) -> int:
        if call.number == 0:
            for _ in range(pages):
                assert take_page(guest.base, ZONE) >= 0
            guest.given -= pages
        return 0

    return answer


STALE = {
    "ST-1 order-threshold": (
        "order-threshold", ["32 o9", "32 o9"], ["1 o9 + 20 o10"], 16_756,
    ),
    "ST-1 halving": ("halving", [], ["1 o9", "16 o10", "4 o10"], 21_364),
    "ST-1 reserve": ("reserve", [], ["1 o9 + 15 o10", "5 o10"], 21_876),
}  # fmt: skip


@pytest.mark.parametrize("case", STALE.values(), ids=STALE.keys())
def test_where_a_stale_threshold_matters(guests: ExitStack, case: Any) -> None:
    policy, _, after, least = case
    guest = guest_of(guests, 64, 20, 500, zone=LOW_13862)
    assert guest.free_pages(ZONE) == 53_748
    driver = Driver(guest, policy=policy_by_name(policy), answer=user_takes(guest, 16_000))
    driver.run(passes=1)
    assert batch(driver.calls[0]) == "32 o9"
    assert [batch(call) for call in driver.calls[1:]] == after
    assert min(call.free_pages for call in driver.calls[1:]) == least


def test_where_a_stale_threshold_does_not_matter(guests: ExitStack) -> None:
    """S12-3: with G512's low mark a threshold of after the first batch would be the same."""
    guest = guest_of(guests, 40, 18, 500)
    seen = []

    def at_point(name: str) -> None:
        if name == AFTER_GATE or (name == AFTER_ISOLATE and len(seen) < 2):
            pending = guest.isolated_pages()
            seen.append(order_threshold(zone_view(guest.free_pages(ZONE) + pending)))

    driver = Driver(
        guest,
        policy=policy_by_name("order-threshold"),
        answer=user_takes(guest, 500),
        at_point=at_point,
    )
    driver.run(passes=1)
    assert seen == [11, 11]
    assert batches(driver) == [["32 o9", "8 o9 + 18 o10"]]


# ---- halving and reserve ----


def test_capacities_of_halving() -> None:
    """A-1: for page_reporting_order 0, 5 and 9."""
    at_0 = [entries_of_order(order, 0, 32) for order in range(11)]
    assert at_0 == [32, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1]
    assert [entries_of_order(order, 5, 32) for order in (5, 10, 13)] == [32, 1, 1]
    assert [entries_of_order(order, 9, 32) for order in (9, 10)] == [32, 16]
    assert most_pages(0, 32) == 1 << 10
    assert most_pages(5, 32) == 32 << 5
    assert most_pages(9, 32) == 16_384


BUDGETS = [
    (1, 1, 1, 2), (30, 1, 1, 2), (256, 1, 1, 2), (257, 1, 2, 2), (300, 1, 2, 2), (512, 1, 2, 2),
    (513, 2, 3, 4), (700, 2, 3, 4), (16_384, 32, 64, 64),
]  # fmt: skip
"""Blocks of order 10, and the budget of mainline, "div" and "shift" (docs/model.md, 9.3)."""


@pytest.mark.parametrize(("blocks", "mainline", "div", "shift"), BUDGETS)
def test_budgets(blocks: int, mainline: int, div: int, shift: int) -> None:
    def budget(hold: Hold) -> int:
        return budget_of(blocks, hold.budget_capacity or hold.capacity) << hold.budget_shift

    assert budget(Hold(32)) == mainline
    assert budget(hold_of_order(10, 9, 32, "div")) == div
    assert budget(hold_of_order(10, 9, 32, "shift")) == shift


class Moving:
    """A reserve that changes in the middle of a list: 12 entries at first, then `after`."""

    name = "moving"
    source = "a test"
    registers_device = True

    def __init__(self, before: int, pending: int, after: int) -> None:
        self.before, self.pending, self.after = before, pending, after

    def at_zone(self, _view: ZoneView) -> Any:
        """All zones."""
        return ()

    def at_hold(self, order: int, _view: HoldView, _context: Any) -> Hold:
        """Order 9 fills with the first capacity, order 10 has the other."""
        if order == 9:
            return Hold(32 - self.before, take=self.pending, budget=9)
        return Hold(32 - self.after, budget=9)


def test_a_reserve_that_grows_loses_nothing(guests: ExitStack) -> None:
    """B-4: 12 pending (offset 20), the reserve rises to 24: the next block sends the 12."""
    driver = Driver(guest_of(guests, 12, 20, 20_000), policy=Moving(0, 12, 24)).run()
    assert batches(driver)[0] == ["12 o9", "8 o10", "8 o10", "4 o10"]


def test_a_reserve_that_shrinks_fills_on(guests: ExitStack) -> None:
    """B-5: offset 20, the reserve falls to 8: filling goes on down to 8."""
    driver = Driver(guest_of(guests, 12, 20, 20_000), policy=Moving(16, 12, 8)).run()
    assert batches(driver)[0] == ["12 o9 + 12 o10", "8 o10"]


def test_a_reserve_of_everything_is_refused(guests: ExitStack) -> None:
    """B-6: 32 entries unused would make a report of nothing."""
    driver = Driver(guest_of(guests, 12, 20, 20_000), policy=Moving(0, 12, 32))
    said = "policy moving: at_hold: capacity = 0 is not a whole number from 1 to 32"
    with pytest.raises(PolicyError, match=said):
        driver.run()
    assert [batch(call) for call in driver.calls] == ["12 o9"]


@pytest.mark.parametrize("capacity", range(1, 33))
@pytest.mark.parametrize("policy", ["driver-capacity", "halving", "reserve", "order-threshold"])
def test_every_capacity_of_the_device(guests: ExitStack, policy: str, capacity: int) -> None:
    """B-7: what is reported is put back, whatever the numbers; and the bound is kept."""
    guest = guest_of(guests, 9, 21, 3000)
    settings = ReporterSettings(2, capacity=capacity)
    driver = Driver(guest, policy_by_name(policy), settings, thorough=capacity % 8 == 3).run()
    assert len(guest.reported(9, zone=ZONE)) == 9
    assert len(guest.reported(10, zone=ZONE)) == 21
    assert guest.isolated_pages() == 0
    bound = POLICIES[policy].isolated_pages_max(9, capacity)  # type: ignore[attr-defined]
    most = max(sum(1 << order for _, order in call.entries) for call in driver.calls)
    assert most <= bound
    assert all(1 <= len(call.entries) <= capacity for call in driver.calls)


def test_a_driver_names_its_capacity(guests: ExitStack) -> None:
    guest = guest_of(guests, 0, 20)
    driver = run(guest, "driver-capacity:capacity=7")
    assert guest.report[layout.R_CAPACITY] == 7
    # its budget, too, is of 7 entries: a unit of 112 blocks
    assert driver.entries_by_pass() == [[7, 7], [6]]
    assert guest.events("gate-closed")[0]["needed_pages"] == 26 + (7 << 9)


# ---- bounds and windows of all ----


@pytest.mark.parametrize(
    ("policy", "bound"),
    [
        ("off", 0),
        ("mainline", 32_768),
        ("driver-capacity", 32_768),
        ("order-threshold", 32_768),
        ("halving", 16_384),
        ("reserve", 16_384),
    ],
    ids=lambda value: f"S12-1 {value}" if isinstance(value, str) else None,
)
def test_bounds(guests: ExitStack, policy: str, bound: int) -> None:
    said: Any = policy_by_name(policy)
    assert said.isolated_pages_max(9, 32) == bound
    guest = guest_of(guests, 30, 60, 100)
    driver = run(guest, policy)
    pages = [sum(1 << order for _, order in call.entries) for call in driver.calls]
    assert max(pages, default=0) == bound


S12_2 = {
    17_232: (848, 848, 848, 848),
    18_432: (1024, 2048, 2048, 2048),
    25_600: (1024, 9216, 9216, 9216),
    33_614: (846, 17_230, 17_230, 17_230),
    33_615: (847, 847, 17_231, 17_231),
    38_400: (5632, 5632, 22_016, 22_016),
    51_200: (18_432, 18_432, 34_816, 34_816),
}
"""By F: mainline, P4 and A and B with blocks of order 10; all of them with order 9."""


@pytest.mark.parametrize("free_pages", S12_2, ids=[f"S12-2 {free}" for free in S12_2])
def test_first_window_of_each_policy(guests: ExitStack, free_pages: int) -> None:
    mainline, p4, halves, of_9 = S12_2[free_pages]
    expected = {
        "mainline": mainline, "order-threshold": p4, "halving": halves, "reserve": halves,
    }  # fmt: skip
    for name, left in expected.items():
        for make, pages in ((of_order_10, left), (of_order_9, of_9)):
            policy: Policy = policy_by_name(name)
            driver = Driver(make(guests, free_pages), policy=policy, thorough=False)
            assert driver.run(passes=1).calls[0].free_pages == pages


# ---- reporting_factor ----


def test_the_estimate_of_what_is_pending() -> None:
    """F-1: 20 o9 and 1 o10 pending."""
    assert pending_estimate(21, 10) == 21_504
    assert 20 * O9 + O10 == 11_264


def test_the_threshold_of_the_factor() -> None:
    """F-2: G512 at 50 percent."""
    assert factor_threshold(118_784, 50) == 59_392


def with_factor(guest: Guest, percent: int, policy: str = "mainline", **more: Any) -> Driver:
    settings = ReporterSettings(2, factor=percent)
    return Driver(guest, policy=policy_by_name(policy), settings=settings, **more)


ESTIMATED = {
    "F-1 mainline": ("mainline", ["20 o9 + 1 o10"]),
    "F-1 order-threshold": ("order-threshold", ["20 o9 + 1 o10"]),
    "F-1 halving": ("halving", ["20 o9", "11 o10"]),
    "F-1 reserve": ("reserve", ["20 o9", "11 o10"]),
}
"""Only where orders mix in a batch is the estimate wrong."""


@pytest.mark.parametrize("case", ESTIMATED.values(), ids=ESTIMATED.keys())
def test_the_estimate_stops_a_mixed_batch_too_early(guests: ExitStack, case: Any) -> None:
    """18 percent are 21381 pages; 20 o9 and one o10 are taken to be 21504."""
    policy, expected = case
    driver = with_factor(guest_of(guests, 20, 40), 18, policy).run(passes=1)
    assert batches(driver) == [expected]


def test_the_factor_stops_with_a_short_batch_one_block_over(guests: ExitStack) -> None:
    """10 percent are 11878 pages: the twelfth o10 is taken before the test."""
    guest = guest_of(guests, 0, 40)
    driver = with_factor(guest, 10).run()
    assert batches(driver) == [["12 o10"]]
    assert driver.states == [IDLE]
    # the block after the last one isolated is the first of its list now
    assert guest.listed(10, zone=ZONE)[0] == DMA32.start_pfn + 12 * O10
    guest.give(DMA32.start_pfn + 60 * O10, 10, flags=0)
    assert batches(driver.run()) == [["12 o10"], []]
    assert guest.events("factor-reached")[-1] == {
        "zone": 1, "reported_pages": 12_288, "factor_percent": 10,
    }  # fmt: skip


def test_a_factor_that_ends_a_list_with_its_last_block(guests: ExitStack) -> None:
    guest = guest_of(guests, 0, 12, 10_000)
    assert batches(with_factor(guest, 10).run()) == [["12 o10"]]


def test_no_factor_means_no_test(guests: ExitStack) -> None:
    """A kernel without the patches; at 100 the estimate may still stop a batch."""
    zone = DMA32._replace(end_pfn=DMA32.start_pfn + 60 * O10)
    guest = guest_of(guests, 30, 30, zone=zone)
    run(guest, "mainline")
    assert guest.report[R_FACTOR] == 0
    assert len(guest.reported(10, zone=ZONE)) == 30


def test_the_factor_changes_while_a_pass_runs(guests: ExitStack) -> None:
    """Lowered in the first window, it ends the zone after one more block."""
    guest = guest_of(guests, 0, 60)

    def answer(call: Call) -> int:
        if call.number == 0:
            assert set_reporting_factor(guest.base, REPORTER, 0, 0) == 100
        return 0

    driver = with_factor(guest, 100, answer=answer).run(passes=1)
    assert batches(driver) == [["32 o10", "1 o10"]]


def test_a_raised_factor_asks_for_a_pass(guests: ExitStack) -> None:
    guest = guest_of(guests, 0, 40)
    driver = with_factor(guest, 10).run()
    assert driver.states == [IDLE]
    assert set_reporting_factor(guest.base, 0, 30, 0) == 10
    assert guest.report[layout.R_STATE] == REQUESTED
    driver.run()
    assert len(guest.reported(10, zone=ZONE)) >= 30


def test_a_factor_raised_without_a_block_to_spare_asks_for_nothing(guests: ExitStack) -> None:
    guest = guest_of(guests, 0, 0, 17_000)
    driver = with_factor(guest, 10).run()
    assert set_reporting_factor(guest.base, 0, 30, 0) == 10
    assert guest.report[layout.R_STATE] == IDLE
    assert driver.calls == []


# ---- policies that look at nothing ----


class Asked:
    """A built-in policy by another name: the reporter asks it before each hold."""

    name = "asked"
    source = "a test"
    registers_device = True

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.orders: list[int] = []

    def at_zone(self, view: ZoneView) -> Any:
        """As the policy inside."""
        return self._policy.at_zone(view)

    def at_hold(self, order: int, view: HoldView, context: Any) -> Hold:
        """As the policy inside."""
        self.orders.append(order)
        return self._policy.at_hold(order, view, context)


BLIND = [name for name, policy in POLICIES.items() if hasattr(policy, "fixed_hold")]


def test_which_policies_look_at_nothing() -> None:
    assert BLIND == ["mainline", "driver-capacity"]


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("until_ns", [0, 1 << 62], ids=["time is up", "time is left"])
@pytest.mark.parametrize("capacity", [1, 7, 32])
def test_a_policy_that_looks_at_nothing_reports_as_if_it_were_asked(
    guests: ExitStack, name: str, capacity: int, until_ns: int
) -> None:
    """Lists of three types and both orders; a call in the middle of a list that fails."""

    def outcome(policy: Policy) -> Any:
        guest = guest_of(guests, o9=20, o10=40, small=1000)
        for number, kind in enumerate((UNMOVABLE, RECLAIMABLE)):
            first = DMA32.start_pfn + (70 + 10 * number) * O10
            blocks = [first + place * O10 for place in range(4)]
            guest.give_list(9, blocks, kind)
        driver = Driver(
            guest,
            policy=policy,
            settings=ReporterSettings(2, capacity=capacity),
            answer=lambda call: 5 if call.number == 3 else 0,
            until_ns=until_ns,
        )
        driver.run()
        calls = [
            (call.zone, call.entries, call.free_pages, call.in_visit) for call in driver.calls
        ]
        lists = [guest.listed(order, kind) for order in (9, 10) for kind in range(3)]
        return calls, driver.states, lists

    asked = Asked(POLICIES[name])
    assert outcome(POLICIES[name]) == outcome(asked)
    assert {*asked.orders} == {9, 10}
