"""The reporting cycle, by the IDs of docs/model.md: RP-1 to RP-14 and the table RP-20."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from pagesoak.base import layout, statistics
from pagesoak.base.layout import (
    HIGHATOMIC,
    IDLE,
    ISOLATE,
    MOVABLE,
    RECLAIMABLE,
    REQUESTED,
    UNMOVABLE,
)
from pagesoak.reporter import cycle
from pagesoak.reporter.cycle import budget_of
from pagesoak.reporter.gate import open_zone
from tests.reporting_driver import Call, Driver
from tests.zone_helper import G512, Guest, ZonePlan, ample, isolate_block

O10 = 1 << 10
O9 = 1 << 9
EIO = 5


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """Closes the guests of a test."""
    with ExitStack() as stack:
        yield stack


def make_guest(stack: ExitStack, *zones: ZonePlan) -> Guest:
    guest = Guest(*zones)
    stack.callback(guest.close)
    return guest


def guest_of_o10(stack: ExitStack, blocks: int, reported: tuple[int, ...] = ()) -> Guest:
    """Blocks 0, 1, 2 … of order 10 on the MOVABLE list, in this order, memory ample."""
    guest = make_guest(stack, ample(blocks + 40))
    pfns = [number * O10 for number in range(blocks)]
    guest.give_list(10, pfns, reported=[number * O10 for number in reported])
    # what is free beside the list, so that the gate is open however short it is
    guest.give_small(33 * O9, blocks * O10)
    return guest


def numbers(pfns: list[int]) -> list[int]:
    return [pfn // O10 for pfn in pfns]


# ---- budget, passes, order of the list ----

BUDGETS = {1: 1, 512: 1, 513: 2, 1024: 2, 1025: 3, 16_384: 32}


@pytest.mark.parametrize("blocks", BUDGETS, ids=[f"RP-1 {blocks} blocks" for blocks in BUDGETS])
def test_budget(blocks: int) -> None:
    assert budget_of(blocks, 32) == BUDGETS[blocks]


@pytest.mark.parametrize("blocks", [1, 512, 513, 1025], ids=lambda blocks: f"RP-1 {blocks} blocks")
def test_budget_allows_one_report_more(guests: ExitStack, blocks: int) -> None:
    guest = guest_of_o10(guests, blocks)
    driver = Driver(guest, thorough=False).run(passes=1)
    in_visit = [call for call in driver.calls if call.in_visit]
    assert len(in_visit) == min(BUDGETS[blocks] + 1, (blocks - 1) // 32)
    assert all(len(call.entries) == 32 for call in in_visit)


def test_budget_counts_all_types(guests: ExitStack) -> None:
    """nr_free is over all types: 497 movable and 16 reclaimable blocks make a budget of 2."""
    guest = guest_of_o10(guests, 513)
    guest.give_list(10, [guest.take(10) for _ in range(16)], RECLAIMABLE)
    driver = Driver(guest, thorough=False).run(passes=1)
    assert [len(call.entries) for call in driver.calls] == [32, 32, 32, 16]
    assert driver.states == [REQUESTED]


def test_budget_counts_what_is_free_when_the_visit_begins(guests: ExitStack) -> None:
    """The 16 unmovable blocks are isolated by then, so 513 less 16 make a budget of 1."""
    guest = guest_of_o10(guests, 513)
    guest.give_list(10, [guest.take(10) for _ in range(16)], UNMOVABLE)
    driver = Driver(guest, thorough=False).run(passes=1)
    assert [len(call.entries) for call in driver.calls] == [32, 32]
    assert driver.states == [REQUESTED]


class Passes(NamedTuple):
    """Entries of each report call, pass by pass."""

    blocks: int
    entries: list[list[int]]


PASSES = {
    "RP-2": Passes(32, [[32]]),
    "RP-3": Passes(64, [[32, 32]]),
    "RP-4": Passes(65, [[32, 32], [1]]),
    "RP-5": Passes(100, [[32, 32], [32, 4]]),
}


@pytest.mark.parametrize("case", PASSES.values(), ids=PASSES.keys())
def test_passes(guests: ExitStack, case: Passes) -> None:
    guest = guest_of_o10(guests, case.blocks)
    driver = Driver(guest).run()
    assert driver.entries_by_pass() == case.entries
    assert driver.states == [REQUESTED] * (len(case.entries) - 1) + [IDLE]
    assert len(guest.reported(10)) == case.blocks
    last = driver.calls[-1]
    assert not last.in_visit
    assert all(call.in_visit for call in driver.calls if call.pass_number < last.pass_number)


@pytest.mark.parametrize("case", [PASSES["RP-4"]], ids=["RP-4"])
def test_what_the_budget_leaves(guests: ExitStack, case: Passes) -> None:
    guest = guest_of_o10(guests, case.blocks)
    Driver(guest).run(passes=1)
    assert len(guest.reported(10)) == 64
    [again] = guest.events("requested-again")
    assert again == {"zone": 0, "order": 10, "migratetype": MOVABLE}
    assert guest.report[layout.R_STATE] == REQUESTED


@pytest.mark.parametrize("blocks", [16_384], ids=["RP-6"])
def test_64_gib_in_sixteen_passes(guests: ExitStack, blocks: int) -> None:
    guest = guest_of_o10(guests, blocks)
    driver = Driver(guest, thorough=False).run()
    assert len(driver.states) == 16
    assert driver.states[-1] == IDLE
    assert len(driver.sleeps) == 16
    by_pass = driver.entries_by_pass()
    assert by_pass[:15] == [[32] * 33] * 15
    assert sum(by_pass[15]) == blocks - 15 * 1056
    assert len(guest.reported(10)) == blocks


class ListCase(NamedTuple):
    """Blocks 0, 1, 2 …; which of them are Reported; the list after the first pass."""

    blocks: int
    reported: tuple[int, ...]
    entries: list[int]
    expected: list[int]
    unreported: int = 0
    """So many at the head are unreported afterwards."""


def down(first: int, last: int) -> list[int]:
    return list(range(first, last - 1, -1))


LISTS = {
    "RP-7": ListCase(5, (), [5], [4, 3, 2, 1, 0]),
    "RP-8": ListCase(5, (0, 2), [3], [0, 2, 4, 3, 1]),
    "RP-9": ListCase(34, (), [32, 2], [*down(31, 0), 33, 32]),
    "RP-10": ListCase(70, (), [32, 32], [*range(64, 70), *down(31, 0), *down(63, 32)], 6),
    # what RP-10 itself does not show: without Reported blocks in front nothing is rotated
    "RP-10 behind Reported blocks": ListCase(
        74,
        (0, 1, 2, 3),
        [32, 32],
        [*range(68, 74), *range(4), *down(35, 4), *down(67, 36)],
        6,
    ),
}


@pytest.mark.parametrize("case", LISTS.values(), ids=LISTS.keys())
def test_list_after_a_pass(guests: ExitStack, case: ListCase) -> None:
    guest = guest_of_o10(guests, case.blocks, case.reported)
    driver = Driver(guest).run(passes=1)
    assert driver.entries_by_pass() == [case.entries]
    assert numbers(guest.listed(10)) == case.expected
    assert numbers(guest.reported(10)) == case.expected[case.unreported :]


@pytest.mark.parametrize("blocks", [40], ids=["RP-11"])
def test_a_report_that_fails(guests: ExitStack, blocks: int) -> None:
    guest = guest_of_o10(guests, blocks)
    driver = Driver(guest, answer=lambda _: EIO).run()
    assert driver.entries_by_pass() == [[32]]
    assert numbers(guest.listed(10)) == [*range(32, 40), *down(31, 0)]
    assert guest.reported(10) == []
    assert guest.isolated_pages() == 0
    assert driver.states == [IDLE]
    assert guest.counter(statistics.REPORT_ERRORS) == 1
    assert guest.counter(statistics.REPORTED_PAGES) == 0


def test_a_leftover_that_fails_ends_the_pass(guests: ExitStack) -> None:
    """The next zone is not visited."""
    guest = make_guest(guests, ZonePlan(0, 40 << 10), ZonePlan(40 << 10, 80 << 10))
    for zone in range(2):
        guest.give_list(10, [(40 * zone + number) * O10 for number in range(20)])
        guest.give_small(100, (40 * zone + 30) * O10)
    driver = Driver(guest, answer=lambda _: EIO).run()
    assert [(call.zone, len(call.entries)) for call in driver.calls] == [(0, 20)]
    assert driver.states == [IDLE]
    assert numbers(guest.listed(10)) == down(19, 0)


# ---- what happens in the window ----


class BuddyCase(NamedTuple):
    """So many o9 blocks; in the window of call 0 the buddy of one of them is freed."""

    blocks: int
    isolated_half: int
    """0: the lower half is isolated and the upper one freed; 1: the other way round."""
    entries: list[list[tuple[int, int]]]
    """(order 9 entries, order 10 entries) of each call, pass by pass."""


BUDDIES = {
    "RP-12 in the visit, lower half": BuddyCase(40, 0, [[(32, 0), (8, 1)], []]),
    "RP-12 in the visit, upper half": BuddyCase(40, 1, [[(32, 0), (8, 1)], []]),
    "RP-12 leftover, lower half": BuddyCase(5, 0, [[(5, 0)], [(0, 1)]]),
    "RP-12 leftover, upper half": BuddyCase(5, 1, [[(5, 0)], [(0, 1)]]),
}


@pytest.mark.parametrize("case", BUDDIES.values(), ids=BUDDIES.keys())
def test_buddy_freed_in_the_window(guests: ExitStack, case: BuddyCase) -> None:
    guest = make_guest(guests, ample(120))
    half = case.isolated_half * O9
    guest.give_list(9, [number * O10 + half for number in range(case.blocks)])
    guest.give_small(33 * O9, 60 * O10)
    buddy = 3 * O10 + O9 - half

    def answer(call: Call) -> int:
        if call.number == 0:
            assert 3 * O10 + half in call.pfns
            assert guest.give(buddy, 9, flags=0) == 9
            assert guest.listed(9)[0] == buddy
            assert guest.report[layout.R_STATE] == REQUESTED
        return 0

    merged: list[tuple[list[int], list[int]]] = []

    def at_point(name: str) -> None:
        if name == "before-end":
            merged.append((guest.listed(10), guest.reported(10)))

    driver = Driver(guest, answer=answer, at_point=at_point).run()
    orders = [[order for _, order in call.entries] for call in driver.calls]
    found: list[list[tuple[int, int]]] = [[] for _ in driver.states]
    for call, of_call in zip(driver.calls, orders, strict=True):
        found[call.pass_number].append((of_call.count(9), of_call.count(10)))
    assert found == case.entries
    assert driver.states == [REQUESTED, IDLE]
    reported_in_first_pass = [3 * O10] if case.blocks > 32 else []
    assert merged == [([3 * O10], reported_in_first_pass), ([3 * O10], [3 * O10])]
    assert len(guest.reported(9)) == case.blocks - 1


def test_two_reported_buddies_merge_unreported(guests: ExitStack) -> None:
    guest = make_guest(guests, ample(40))
    guest.give_list(9, [0])
    guest.give_small(33 * O9, O10)
    Driver(guest).run()
    assert guest.reported(9) == [0]
    guest.give(O9, 9, flags=0)
    assert (guest.listed(10), guest.reported(10)) == ([0], [])
    assert guest.word(0, layout.Z_REPORTED) == 0
    assert guest.report[layout.R_STATE] == REQUESTED


@pytest.mark.parametrize("order", [10], ids=["RP-13"])
def test_a_page_of_a_reported_block(guests: ExitStack, order: int) -> None:
    guest = make_guest(guests, ample(2))
    guest.give_list(order, [0], reported=[0])
    guest.report[layout.R_REGISTERED] = 1
    guest.report[layout.R_ORDER] = 9
    assert guest.take(0) == 0
    for piece in range(10):
        assert guest.listed(piece) == [1 << piece]
        assert guest.reported(piece) == []
    assert guest.word(0, layout.Z_REPORTED) == 0
    assert guest.free_pages() == O10 - 1
    assert guest.report[layout.R_STATE] == IDLE
    assert guest.report[layout.R_NOTIFY_SEQUENCE] == 0


@pytest.mark.parametrize("migratetype", [UNMOVABLE, RECLAIMABLE], ids=lambda t: f"RP-14 type {t}")
def test_reporting_makes_blocks_movable(guests: ExitStack, migratetype: int) -> None:
    guest = make_guest(guests, ample(80))
    guest.give_list(9, [7 * O9], migratetype)
    guest.give_small(33 * O9, 10 * O9)
    driver = Driver(guest).run()
    assert driver.entries_by_pass() == [[1]]
    assert guest.listed(9, migratetype) == []
    assert guest.reported(9, MOVABLE) == [7 * O9]
    assert guest.segment.blocks[7] == MOVABLE


def test_highatomic_blocks_are_reported_and_keep_their_type(guests: ExitStack) -> None:
    guest = make_guest(guests, ample(80))
    guest.give_list(9, [7 * O9], HIGHATOMIC)
    guest.give_small(33 * O9, 10 * O9)
    guest.set_word(0, layout.Z_RESERVED_HIGHATOMIC, O9)
    Driver(guest).run()
    assert guest.reported(9, HIGHATOMIC) == [7 * O9]
    assert guest.segment.blocks[7] == HIGHATOMIC


def test_isolate_lists_are_left_alone(guests: ExitStack) -> None:
    guest = make_guest(guests, ample(80))
    guest.give_list(9, [7 * O9], ISOLATE)
    guest.give_small(33 * O9, 10 * O9)
    assert Driver(guest).run().calls == []
    assert guest.reported(9, ISOLATE) == []


def test_put_back_goes_to_the_type_of_then(guests: ExitStack) -> None:
    """The page block was claimed for another type during the window."""
    guest = guest_of_o10(guests, 3)

    def answer(_call: Call) -> int:
        for block in (2, 3):
            guest.segment.blocks[block] = RECLAIMABLE
        return 0

    Driver(guest, answer=answer).run()
    assert numbers(guest.reported(10, RECLAIMABLE)) == [1]
    assert numbers(guest.reported(10)) == [2, 0]


def test_freed_in_the_window_is_treated_in_the_same_visit(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 40)
    fresh = 77 * O10

    def answer(call: Call) -> int:
        if call.number == 0:
            guest.give(fresh, 10, flags=0)
            assert guest.listed(10)[0] == fresh
        return 0

    driver = Driver(guest, answer=answer).run()
    assert driver.entries_by_pass() == [[32, 9], []]
    assert driver.calls[1].pfns == [*(number * O10 for number in down(39, 32)), fresh]


def test_orders_and_types_share_a_scatterlist(guests: ExitStack) -> None:
    """Order 9 first, types ascending, entries from the last downwards."""
    guest = make_guest(guests, ample(80))
    guest.give_list(10, [0, O10])
    guest.give_list(9, [4 * O10, 5 * O10], MOVABLE)
    guest.give_list(9, [6 * O10], UNMOVABLE)
    guest.give_small(33 * O9, 20 * O10)
    driver = Driver(guest).run()
    [call] = driver.calls
    assert call.entries == [
        (O10, 10),
        (0, 10),
        (5 * O10, 9),
        (4 * O10, 9),
        (6 * O10, 9),
    ]


# ---- how deep free memory goes ----

WINDOWS = {
    17_231: (0, 17_231),
    17_232: (16, 848),
    18_432: (17, 1024),
    20_480: (19, 1024),
    25_600: (24, 1024),
    30_720: (29, 1024),
    33_615: (32, 847),
    34_768: (32, 2000),
    38_400: (32, 5632),
}


def g512(stack: ExitStack, free_pages: int) -> Guest:
    """G512 with so many free pages in DMA32: order 10 as far as they go, the rest small."""
    guest = make_guest(stack, *G512)
    guest.give_list(10, [O10, 2 * O10, 3 * O10])
    blocks = free_pages // O10
    guest.give_list(10, [G512[1].start_pfn + number * O10 for number in range(blocks)])
    guest.give_small(free_pages - blocks * O10, 120 * O10)
    assert guest.free_pages(1) == free_pages
    return guest


@pytest.mark.parametrize("free_pages", WINDOWS, ids=[f"RP-20 {free}" for free in WINDOWS])
def test_window_in_g512(guests: ExitStack, free_pages: int) -> None:
    guest = g512(guests, free_pages)
    isolated, left = WINDOWS[free_pages]
    driver = Driver(guest).run(passes=1)
    if isolated == 0:
        assert driver.calls == []
        assert driver.states == [IDLE]
        assert guest.free_pages(1) == left
        assert guest.counter(statistics.GATES_CLOSED) == 2
        return
    first = driver.calls[0]
    assert (first.zone, len(first.entries), first.free_pages) == (1, isolated, left)
    assert {order for _, order in first.entries} == {10}
    refused = guest.events("isolation-refused")
    assert bool(refused) == (isolated < min(32, free_pages // O10))
    assert guest.word(1, layout.Z_FREE_PAGES_MIN) == left
    assert guest.word(1, layout.Z_ISOLATED_MAX) == isolated * O10
    assert guest.segment.header[layout.H_ISOLATED_PAGES_MAX] == isolated * O10


def test_dma_is_never_reported(guests: ExitStack) -> None:
    guest = make_guest(guests, *G512)
    guest.give_list(10, [O10, 2 * O10, 3 * O10])
    driver = Driver(guest).run()
    assert driver.calls == []
    needed = [event["needed_pages"] for event in guest.events("gate-closed")]
    assert needed == [26 + 32 * O9, 847 + 32 * O9]


def test_dma_is_reported_at_order_5(guests: ExitStack) -> None:
    from pagesoak.reporter.passes import ReporterSettings

    guest = make_guest(guests, *G512)
    guest.give_list(10, [O10, 2 * O10, 3 * O10])
    guest.give_list(5, [64])
    guest.segment.blocks[0] = UNMOVABLE
    driver = Driver(guest, settings=ReporterSettings(2, order=5)).run()
    # 3104 pages free: two order 10 are refused no more than min 21 + 1024 asks for
    assert [order for _, order in driver.calls[0].entries] == [10, 10, 5]
    # an order-5 block does not change the type of its page block
    assert guest.segment.blocks[0] == UNMOVABLE
    assert guest.reported(5, UNMOVABLE) == [64]


class GateCase(NamedTuple):
    """Free pages in G512's DMA32 at which the gate just stays closed."""

    closed_at: int
    boost: int = 0
    highatomic: int = 0


GATES = {
    "plain": GateCase(17_231),
    "boost counts": GateCase(17_231 + 1524, boost=1524),
    "highatomic reserve is not free": GateCase(17_231 + 512, highatomic=512),
}


@pytest.mark.parametrize("case", GATES.values(), ids=GATES.keys())
@pytest.mark.parametrize("more", [0, 1])
def test_gate(guests: ExitStack, case: GateCase, more: int) -> None:
    guest = g512(guests, case.closed_at + more)
    guest.set_word(1, layout.Z_BOOST, case.boost)
    guest.set_word(1, layout.Z_RESERVED_HIGHATOMIC, case.highatomic)
    driver = Driver(guest).run()
    assert bool(driver.calls) == bool(more)


@pytest.mark.parametrize("boost", [0, 1524])
def test_isolation_knows_no_boost(guests: ExitStack, boost: int) -> None:
    """WM-6: with full boost a user needs more than 2202 free pages, the reporter leaves 1024."""
    guest = g512(guests, 25_600)
    guest.set_word(1, layout.Z_BOOST, boost)
    assert Driver(guest).run(passes=1).calls[0].free_pages == 1024


def test_isolation_spares_the_highatomic_reserve(guests: ExitStack) -> None:
    guest = g512(guests, 25_600)
    guest.set_word(1, layout.Z_RESERVED_HIGHATOMIC, 1024)
    assert Driver(guest).run(passes=1).calls[0].free_pages == 2048


@pytest.mark.parametrize(("small", "isolated"), [(679, 18), (678, 17)])
def test_isolation_leaves_min_and_one_page(guests: ExitStack, small: int, isolated: int) -> None:
    guest = g512(guests, 18 * O10 + small)
    call = Driver(guest).run(passes=1).calls[0]
    assert (len(call.entries), call.free_pages) == (isolated, (18 - isolated) * O10 + small)


def test_refusal_asks_for_nothing_but_goes_on_with_the_next_list(guests: ExitStack) -> None:
    """The 19th unmovable block is refused, then the movable one; what is pending is reported."""
    guest = make_guest(guests, ZonePlan(0, 40 << 10, 2000, 2000, 2000))
    guest.give_list(10, [number * O10 for number in range(19)], UNMOVABLE)
    guest.give_list(10, [30 * O10])
    driver = Driver(guest).run()
    refusals = [(event["pfn"], event["free_pages"]) for event in guest.events("isolation-refused")]
    assert refusals == [(18 * O10, 2048), (30 * O10, 2048)]
    assert guest.counter(statistics.ISOLATIONS_REFUSED) == 2
    assert driver.entries_by_pass() == [[18]]
    assert driver.states == [IDLE]
    assert guest.listed(10, UNMOVABLE) == [18 * O10]


# ---- bounds that are ours ----


def test_a_dead_zone_is_waited_for(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 5)
    guest.set_word(0, layout.Z_DEAD, 1)
    driver = Driver(guest).run()
    assert not driver.ended
    assert driver.calls == []
    assert guest.free_pages() == guest.given
    guest.set_word(0, layout.Z_DEAD, 0)
    driver.run()
    assert len(driver.calls) == 1
    assert guest.free_pages() == guest.given


def test_codes_differ() -> None:
    codes = [
        cycle.LIST_DONE,
        cycle.REPORT_NOW,
        cycle.REFUSED,
        cycle.BUDGET,
        cycle.TAKEN,
        cycle.FLUSH,
        cycle.DEVICE_ERROR,
        cycle.LOCK_FAILED,
        cycle.LIST_BROKEN,
    ]
    assert len(set(codes)) == len(codes)


REPORTING_THRESHOLDS = {
    "WO isolate an o9 block": (9, 1190),
    "WO isolate an o10 block": (10, 1702),
}


@pytest.mark.parametrize(
    ("order", "threshold"), REPORTING_THRESHOLDS.values(), ids=REPORTING_THRESHOLDS
)
def test_isolation_passes_above(guests: ExitStack, order: int, threshold: int) -> None:
    guest = make_guest(guests, *G512)
    start = G512[1].start_pfn
    guest.give_list(order, [start])
    guest.give_small(threshold - (1 << order), start + 16 * O10)
    assert guest.free_pages(1) == threshold
    assert isolate_block(guest.base, 1, start, order) == 0
    assert guest.free_pages(1) == threshold, "a refusal changes nothing"
    assert guest.give(start + 60 * O10, 0) == 0
    assert isolate_block(guest.base, 1, start, order) == 1
    assert guest.free_pages(1) == threshold + 1 - (1 << order)


@pytest.mark.parametrize("above", [0, 1], ids=["WO gate closed", "WO gate open"])
def test_gate_opens_above(guests: ExitStack, above: int) -> None:
    guest = g512(guests, 17231 + above)
    guest.report[layout.R_ORDER] = 9
    guest.report[layout.R_CAPACITY] = 32
    assert open_zone(guest.base, 0, 1, 2, 0) == 2 - above
