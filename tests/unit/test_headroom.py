"""`headroom`: what it leaves free, when it waits, and what wakes it."""

from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesoak.base import layout
from pagesoak.base.errors import InputError
from pagesoak.base.layout import IDLE, REQUESTED
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.reporter.policies import policy_by_name
from pagesoak.reporter.policies.headroom import Headroom, budget_of_blocks
from pagesoak.reporter.policy import Hold, HoldView
from tests.reporting_driver import Call, Driver
from tests.zone_helper import Guest, ZonePlan, take_smallest

O10 = 1 << 10
O9 = 1 << 9
BLOCKS = 60
ZONE = ZonePlan(0, (BLOCKS + 40) * O10, 100, 200, 300)
FLOOR = 20_000


@pytest.fixture
def guests() -> ExitStack:
    with ExitStack() as stack:
        yield stack


def guest_with(
    stack: ExitStack, o10: int, o9: int = 0, zone: ZonePlan = ZONE, small: int = 0
) -> Guest:
    """So many blocks of each order, none a buddy of another, and small pieces."""
    guest = Guest(zone)
    stack.callback(guest.segment.close)
    guest.give_list(10, [number * O10 for number in range(o10)])
    after = (o10 + 1) * O10
    guest.give_list(9, [after + number * O10 for number in range(o9)])
    after += o9 * O10 + O9
    guest.give_list(0, [after + 2 * number for number in range(small)])
    return guest


def view(**words: int) -> HoldView:
    """A zone of 100 000 managed pages without boost or reserve, of which nothing is known."""
    shown = {
        "zone": 0,
        "migratetype": 1,
        "capacity": 32,
        "free_pages": 50_000,
        "isolated_pages": 0,
        "free_blocks": 40,
        "pending_entries": 0,
        "managed_pages": 100_000,
        "high_pages": 1_000,
    }
    return HoldView(**(shown | words))


# ---- the floor ----


def test_before_anything_is_known_a_quarter_of_the_zone_is_left() -> None:
    assert Headroom().floor_pages(view()) == 1_000 + 25_000
    assert Headroom(initial_percent=10).floor_pages(view()) == 1_000 + 10_000


def test_more_than_a_quarter_where_more_was_taken() -> None:
    assert Headroom().floor_pages(view(demand_pages=30_000)) == 31_000


def test_what_is_known_is_left_with_boost_and_reserve() -> None:
    shown = view(demand_pages=7_000, demand_known=True, boost_pages=512, reserved_pages=64)
    assert Headroom().floor_pages(shown) == 1_000 + 512 + 64 + 7_000


def test_a_floor_that_is_set_is_the_floor() -> None:
    policy = policy_by_name("headroom:floor=9000")
    assert policy == Headroom(floor=9_000)
    assert Headroom(floor=9_000).floor_pages(view(demand_pages=30_000)) == 9_000


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("floor=-1", "headroom: floor: must be from 0 to"),
        ("memory_seconds=0", "headroom: memory_seconds: must be from 1 to 86400, not 0"),
        ("initial_percent=101", "headroom: initial_percent: must be from 0 to 100, not 101"),
        ("floor=much", "headroom: floor must be a whole number, not 'much'"),
        ("floors=3", "headroom has no option 'floors'"),
    ],
)
def test_options_that_make_no_sense(option: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        policy_by_name(f"headroom:{option}")


# ---- how much at once ----


@pytest.mark.parametrize(
    ("free", "pending", "order", "capacity", "take"),
    [
        (FLOOR + 10 * O10, 0, 10, 10, 10),
        (FLOOR + 10 * O10 - 1, 0, 10, 9, 9),
        (FLOOR + 10 * O10, 0, 9, 20, 20),
        (FLOOR + 10 * O10, 5, 10, 15, 10),
        (FLOOR + 90 * O10, 5, 10, 32, 90),
        (FLOOR + O10 - 1, 7, 10, 7, 0),
        (FLOOR - 1, 0, 9, 1, 0),
    ],
)
def test_blocks_that_the_floor_leaves(
    free: int, pending: int, order: int, capacity: int, take: int
) -> None:
    shown = view(free_pages=free, pending_entries=pending)
    hold = Headroom(floor=FLOOR).at_hold(order, shown, ())
    assert (hold.capacity, hold.take, hold.leave_free_pages) == (capacity, take, FLOOR)


def test_what_a_report_brought_home_is_free_again() -> None:
    shown = view(
        free_pages=FLOOR, pending_entries=8, pending_pages=8 * O10, isolated_pages=8 * O10
    )
    assert Headroom(floor=FLOOR).at_hold(10, shown, ()).take == 0
    shown = view(
        free_pages=FLOOR,
        pending_entries=8,
        pending_pages=8 * O10,
        isolated_pages=8 * O10,
        reported=True,
    )
    hold = Headroom(floor=FLOOR).at_hold(10, shown, ())
    assert (hold.capacity, hold.take) == (8, 8)


@pytest.mark.parametrize(
    ("blocks", "entries", "budget"),
    [(1, 32, 1), (512, 32, 1), (513, 32, 2), (512, 8, 7), (100, 1, 63), (16384, 32, 32)],
)
def test_a_visit_reports_as_many_blocks_as_mainlines(
    blocks: int, entries: int, budget: int
) -> None:
    assert budget_of_blocks(blocks, 32, entries) == budget


# ---- a reporter under it ----


def test_every_isolation_leaves_the_floor(guests: ExitStack) -> None:
    guest = guest_with(guests, 30)
    driver = Driver(guest, policy=Headroom(floor=FLOOR)).run()
    assert {len(call.entries) for call in driver.calls} == {10}
    assert min(call.free_pages for call in driver.calls) == 30 * O10 - 10 * O10 >= FLOOR
    assert len(guest.reported(10)) == 30
    assert driver.states[-1] == IDLE


def test_orders_share_what_the_floor_leaves(guests: ExitStack) -> None:
    guest = guest_with(guests, 20, o9=5)
    driver = Driver(guest, policy=Headroom(floor=FLOOR)).run()
    free = 20 * O10 + 5 * O9
    assert all(call.free_pages >= FLOOR for call in driver.calls)
    assert [order for _, order in driver.calls[0].entries] == [9, 9, 9, 9, 9]
    assert sum(len(call.entries) for call in driver.calls) == 25
    assert guest.free_pages(0) == free


def test_a_guest_below_the_floor_is_left_alone(guests: ExitStack) -> None:
    guest = guest_with(guests, 20)
    driver = Driver(guest, policy=Headroom(floor=20 * O10)).run()
    assert driver.calls == []
    assert driver.states == [IDLE]
    assert guest.events("waiting") == [
        {
            "zone": 0,
            "order": 10,
            "free_pages": 20 * O10,
            "floor_pages": 20 * O10,
            "retry_ns": 2_000_000_000,
        }
    ]


def waiting_guest(stack: ExitStack) -> tuple[Guest, Driver]:
    """A guest whose reporter waits for a block above the floor."""
    guest = guest_with(stack, 18, small=100)
    driver = Driver(guest, policy=Headroom(floor=18 * O10)).run()
    assert driver.calls == []
    assert guest.zones[Z_WAIT_FREE_PAGES] == 19 * O10
    return guest, driver


def test_a_free_of_any_order_that_lifts_it_over_the_floor_asks_for_a_pass(
    guests: ExitStack,
) -> None:
    guest, driver = waiting_guest(guests)
    place = 60 * O10
    while guest.free_pages(0) < 19 * O10 - 1:
        guest.give(place, 0, flags=0)
        place += 2
    assert guest.report[layout.R_STATE] == IDLE
    guest.give(place, 0, flags=0)
    assert guest.report[layout.R_STATE] == REQUESTED
    assert guest.zones[Z_WAIT_FREE_PAGES] == 0
    driver.run()
    assert len(driver.calls) > 0
    assert all(call.free_pages >= 18 * O10 for call in driver.calls)


def test_a_free_below_that_is_not_even_looked_at_twice(guests: ExitStack) -> None:
    guest, _ = waiting_guest(guests)
    notified = guest.report[layout.R_NOTIFY_SEQUENCE]
    guest.give(60 * O10, 8, flags=0)
    assert guest.report[layout.R_NOTIFY_SEQUENCE] == notified
    assert guest.zones[Z_WAIT_FREE_PAGES] == 19 * O10


def test_under_another_policy_no_free_below_a_page_block_asks(guests: ExitStack) -> None:
    guest = guest_with(guests, 18)
    Driver(guest, policy=policy_by_name("mainline")).run()
    guest.give(60 * O10, 8, flags=0)
    assert guest.report[layout.R_STATE] == IDLE


class Raced(Headroom):
    """Somebody takes pages between the look at the zone and the taking of its lock."""

    guest: Guest
    pages = 3000

    def at_hold(self, order: int, shown: HoldView, context: object) -> Hold:
        """What the policy says of a zone that has fewer pages by then."""
        hold = super().at_hold(order, shown, context)
        for _ in range(self.pages):
            assert take_smallest(self.guest.base, 0, 0, 1) >= 0
            self.guest.given -= 1
        return hold


def test_the_floor_holds_against_who_was_faster_than_the_lock(guests: ExitStack) -> None:
    guest = guest_with(guests, 40)
    policy = Raced(floor=FLOOR)
    Raced.guest = guest
    driver = Driver(guest, policy=policy).run(passes=1)
    assert len(driver.calls) > 1
    assert all(event["free_pages"] >= FLOOR for event in guest.events("isolated"))


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(0, 20),
    st.integers(ZONE.high_pages, 40_000),
    st.lists(st.integers(0, 3000), max_size=30),
)
def test_whatever_is_taken_meanwhile_no_isolation_goes_below_the_floor(
    o10: int, o9: int, floor: int, taken: list[int]
) -> None:
    with ExitStack() as stack:
        guest = guest_with(stack, o10, o9)
        left = list(taken)

        def take(_call: Call) -> int:
            for _ in range(left.pop() if left else 0):
                if take_smallest(guest.base, 0, 0, 1) < 0:
                    break
                guest.given -= 1
            return 0

        driver = Driver(guest, Headroom(floor=floor), answer=take, thorough=False).run()
        assert all(event["free_pages"] >= floor for event in guest.events("isolated"))
        assert driver.states[-1] == IDLE
        gate = ZONE.low_pages + (32 << 9)
        if not sum(taken) and guest.free_pages(0) > gate:
            left_alone = [pfn for pfn in guest.listed(10) if pfn not in guest.reported(10)]
            assert not left_alone or guest.free_pages(0) - floor < O10
            left_alone = [pfn for pfn in guest.listed(9) if pfn not in guest.reported(9)]
            assert not left_alone or guest.free_pages(0) - floor < O9
