"""The reporter against an oracle: any lists, free memory, answers, frees in a window.

Same calls with the same entries, same free memory in each window, same lists in the same order,
same Reported flags, same state after each pass.
"""

from contextlib import closing
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagesoak.base import layout
from pagesoak.base.layout import HIGHATOMIC, REQUESTED
from pagesoak.reporter.passes import ReporterSettings
from tests.oracle import Oracle
from tests.reporting_driver import Call, Driver
from tests.zone_helper import Block, Guest, ZonePlan

O10 = 1 << 10
O9 = 1 << 9
SLOTS = 90
"""Aligned places of 4 MiB; the rest of the zone holds the small blocks."""
PASSES_MAX = 4
EXAMPLES = 100
ORDERS = (9, 10)
TYPES = range(HIGHATOMIC + 1)

# What a slot holds: nothing, its lower or upper half, all of it.
SHAPES = {"none": (), "lower": ((0, 9),), "upper": ((O9, 9),), "whole": ((0, 10),)}


@dataclass
class Case:
    """A zone, and what happens while it is reported."""

    blocks: list[tuple[Block, int, bool]]
    """Block, type, Reported; in the order they stand in their lists."""
    small: int
    min_pages: int
    low_pages: int
    boost: int
    highatomic: int
    capacity: int
    errors: list[int]
    """Answers of the first calls; 0 after them."""
    frees: list[tuple[int, Block, int]]
    """(call in whose window, block, type)."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    slots = draw(st.sampled_from([3, 17, 20, 20, 25, 35, 70, SLOTS]))
    some = draw(st.sampled_from([["whole"], ["whole", "lower"], sorted(SHAPES)]))
    types = st.sampled_from(draw(st.sampled_from([[1], [0, 1], list(TYPES)])))
    flags = st.sampled_from(draw(st.sampled_from([[False], [False, True], [True, False, False]])))
    blocks: list[tuple[Block, int, bool]] = []
    spare: list[Block] = []
    for slot in range(slots):
        shape = draw(st.sampled_from(some))
        for offset, order in SHAPES[shape]:
            block = (slot * O10 + offset, order)
            blocks.append((block, draw(types), draw(flags)))
            if order == 9:
                spare.append((block[0] ^ O9, 9))
        if shape == "none":
            spare.append((slot * O10, 10))
    if draw(st.booleans()):
        blocks = draw(st.permutations(blocks))
    frees: list[tuple[int, Block, int]] = []
    if draw(st.booleans()) and spare:
        freed = draw(st.lists(st.sampled_from(spare), unique=True, max_size=4))
        frees = [(draw(st.integers(0, 4)), block, draw(types)) for block in freed]
    min_pages = draw(st.sampled_from([0, 678, 1500, 4000]))
    low_pages = min_pages + draw(st.integers(0, 1000))
    boost = draw(st.sampled_from([0, 0, 512, 1524]))
    highatomic = draw(st.sampled_from([0, 0, 0, 512]))
    capacity = draw(st.sampled_from([32, 32, 32, 32, 31, 16, 7, 2, 1]))
    gate = low_pages + boost + highatomic + capacity * O9
    missing = gate - sum(1 << order for (_, order), _, _ in blocks)
    return Case(
        blocks=blocks,
        # just at the gate, where isolations are refused, or ample
        small=max(0, missing + draw(st.sampled_from([0, 1, 1, 100, 700, 10_000]))),
        min_pages=min_pages,
        low_pages=low_pages,
        boost=boost,
        highatomic=highatomic,
        capacity=capacity,
        errors=draw(st.lists(st.sampled_from([0, 0, 0, 0, 0, 5]), max_size=6)),
        frees=frees,
    )


def error_of(case: Case, call: int) -> int:
    return case.errors[call] if call < len(case.errors) else 0


def frees_of(case: Case, call: int) -> list[tuple[Block, int]]:
    return [(block, migratetype) for number, block, migratetype in case.frees if number == call]


def make_guest(case: Case) -> Guest:
    plan = ZonePlan(0, 2 * SLOTS << 10, case.min_pages, case.low_pages, case.low_pages)
    guest = Guest(plan)
    guest.set_word(0, layout.Z_BOOST, case.boost)
    guest.set_word(0, layout.Z_RESERVED_HIGHATOMIC, case.highatomic)
    guest.give_small(case.small, SLOTS << 10)
    for (pfn, order), migratetype, reported in case.blocks:
        guest.give_list(order, [pfn], migratetype, [pfn] if reported else [])
    return guest


def make_oracle(case: Case) -> Oracle:
    oracle = Oracle(
        min_pages=case.min_pages,
        low_pages=case.low_pages,
        boost_pages=case.boost,
        highatomic_pages=case.highatomic,
        capacity=case.capacity,
        free_pages=case.small,
    )
    for (pfn, order), migratetype, reported in case.blocks:
        oracle.free(pfn, order, migratetype)
        # the lists are built at the tail, without the merging and placing of a free
        pfns = oracle.listed(order, migratetype)
        pfns.append(pfns.pop(0))
        if reported:
            oracle.reported.add(pfn)

    def answer(call: int) -> int:
        for (pfn, order), migratetype in frees_of(case, call):
            oracle.free(pfn, order, migratetype)
        return error_of(case, call)

    oracle.answer = answer
    return oracle


def same_zone(guest: Guest, oracle: Oracle) -> None:
    for order in ORDERS:
        for migratetype in range(layout.MIGRATE_TYPES):
            pfns = guest.listed(order, migratetype)
            assert pfns == oracle.listed(order, migratetype)
            flagged = [pfn for pfn in pfns if pfn in oracle.reported]
            assert guest.reported(order, migratetype) == flagged
    assert guest.free_pages() == oracle.free_pages
    for block, migratetype in oracle.block_types.items():
        assert guest.segment.blocks[block] == migratetype


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(cases())
def test_the_reporter_does_what_the_rules_say(case: Case) -> None:
    oracle = make_oracle(case)
    with closing(make_guest(case)) as guest:
        same_zone(guest, oracle)

        def answer(call: Call) -> int:
            for (pfn, order), migratetype in frees_of(case, call.number):
                guest.give(pfn, order, migratetype, flags=0)
            return error_of(case, call.number)

        device = ReporterSettings(1, capacity=case.capacity)
        driver = Driver(guest, settings=device, answer=answer)
        for number in range(PASSES_MAX):
            driver.run(passes=number + 1)
            oracle.run_pass()
            found = [(call.entries, call.free_pages) for call in driver.calls]
            assert found == [(call.entries, call.free_pages) for call in oracle.calls]
            same_zone(guest, oracle)
            assert (driver.states[number] == REQUESTED) == oracle.requested
            if not oracle.requested:
                break
