"""Every policy on any free lists: bounds are kept, nothing is lost, and each pass gets on."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pagesoak.base import layout
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies import policy_by_name
from tests.reporting_driver import Call, Driver
from tests.zone_helper import Guest, ZonePlan

O10 = 1 << 10
POLICIES = (
    "mainline",
    "driver-capacity",
    "order-threshold",
    "halving",
    "halving:budget=shift",
    "reserve",
    "reserve:budget=shift",
)
TYPES = (layout.UNMOVABLE, layout.MOVABLE, layout.RECLAIMABLE)
BLOCKS_MAX = 110


@st.composite
def free_lists(draw: st.DrawFn) -> list[tuple[int, int, bool]]:
    """Order, type and Reported of blocks, each in an order-10 place of its own."""
    order = st.sampled_from((9, 10))
    block = st.tuples(order, st.sampled_from(TYPES), st.booleans())
    return draw(st.lists(block, max_size=BLOCKS_MAX))


@settings(max_examples=40, deadline=None)
@given(
    lists=free_lists(),
    policy=st.sampled_from(POLICIES),
    capacity=st.integers(1, 32),
    marks=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
    factor=st.none() | st.integers(0, 100),
    failing=st.frozensets(st.integers(0, 9), max_size=2),
)
def test_a_policy_on_any_lists(
    lists: list[tuple[int, int, bool]],
    policy: str,
    capacity: int,
    marks: tuple[int, int],
    factor: int | None,
    failing: frozenset[int],
) -> None:
    """The driver asserts after each step what must hold then (docs/model.md, 11)."""
    lowest, more = marks
    guest = Guest(ZonePlan(0, (BLOCKS_MAX + 2) * O10, lowest, lowest + more, lowest + 2 * more))
    try:
        for number, (order, migratetype, reported) in enumerate(lists):
            pfn = number * O10
            guest.give_list(order, [pfn], migratetype, [pfn] if reported else [])
        chosen: Any = policy_by_name(policy)

        def answer(call: Call) -> int:
            pages = sum(1 << order for _, order in call.entries)
            assert pages == guest.isolated_pages() <= chosen.isolated_pages_max(9, capacity)
            assert 1 <= len(call.entries) <= capacity
            assert guest.free_pages() > lowest
            return 5 if call.number in failing else 0

        device = ReporterSettings(1, capacity=capacity, factor=factor)
        driver = Driver(guest, chosen, device, answer=answer, thorough=len(lists) < 20)
        driver.run()
        assert guest.isolated_pages() == 0
        assert driver.states[-1] == layout.IDLE
        assert all(calls for calls in driver.entries_by_pass()[:-1])
    finally:
        guest.close()
