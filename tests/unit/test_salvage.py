"""What becomes of the state after a death: nobody's pages come back, everybody else's stay.

A guest of two CPUs with a load each has done some work. A test then commits what a death leaves:
marks, half-made changes, torn pages; and looks at the audit, at who has what, and at contents.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.allocator.audit import audit
from pagesoak.allocator.boot_stamp import verify_taken_pages
from pagesoak.allocator.claims import find_claims, lost_pages
from pagesoak.allocator.forget import forget_marks, forget_processes
from pagesoak.allocator.salvage import give_back, mended_claims, rebuild
from pagesoak.allocator.steady import steady
from pagesoak.base import layout
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_reclaim import L_BUSY
from pagesoak.base.lock import HELD, ZONE_DEAD, give_zone_lock, take_zone_lock
from pagesoak.base.scenario import parse_scenario
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import VIOLATIONS, read_all_counters
from pagesoak.engine.prepare import Soak, prepare
from pagesoak.host.ram import GuestRam
from pagesoak.host.ram_file import RamFile
from pagesoak.host.settle import settle_punched
from pagesoak.reporter.abandon import abandon_report, forget_report, isolated_blocks
from pagesoak.reporter.cycle import reporting_hold
from pagesoak.reporter.request import submit_report
from pagesoak.reporter.state import begin_pass, register_device
from tests.live_helper import scenario_text

REPORTER, HOST, RUNNER = 2, 3, 4
FOREVER_NS = 1 << 62
STEADY = {"kind": "steady", "target": "1MiB", "orders": [60, 10, 5, 5, 5]}
ZONE = 1
"""DMA32, where the loads' pages are."""
ORDER = 5


@pytest.fixture
def soak() -> Iterator[Soak]:
    text = scenario_text([STEADY | {"cpu": 0}, STEADY | {"cpu": 1}], guest={"cpus": 2})
    made = prepare(parse_scenario(text, file="planted.toml", folder=Path()))
    try:
        for cpu in range(2):
            steady(made.segment.base, cpu, cpu, 600, FOREVER_NS)
        assert audit(made.segment).clean
        yield made
    finally:
        made.close()


def ram_of(soak: Soak) -> RamFile:
    assert isinstance(soak.ram, GuestRam)
    return RamFile(soak.ram.file.descriptor)


def held(segment: Segment, load: int) -> list[int]:
    """What a load's table names."""
    at = load * layout.LOAD_WORDS
    first = segment.loads[at + layout.L_TABLE]
    return segment.tables[first : first + segment.loads[at + layout.L_HELD]].tolist()


def verified(segment: Segment) -> int:
    """Look at every page in use; the violations of the run so far."""
    pfn = 0
    while pfn < segment.plan.max_pfn:
        pfn = verify_taken_pages(segment.base, RUNNER, pfn, FOREVER_NS)
    return read_all_counters(segment)[VIOLATIONS]


def bury(soak: Soak, *cpus: int) -> None:
    """What the supervisor does after the death of CPUs that held no lock."""
    segment = soak.segment
    forget_marks(segment, cpus)
    loads = forget_processes(segment, cpus)
    give_back(segment, cpus, mended_claims(segment, loads), ram_of(soak))


def assert_in_order(soak: Soak) -> None:
    segment = soak.segment
    assert audit(segment).breaches == ()
    assert lost_pages(segment) == 0
    assert verified(segment) == 0
    for load in range(2):  # and it can be worked with
        steady(segment.base, load, load, 300, FOREVER_NS)
    assert audit(segment).clean
    assert verified(segment) == 0


def state_of(segment: Segment, pfn: int) -> int:
    return segment.pages[pfn * layout.PAGE_WORDS + layout.STATE]


def set_state(segment: Segment, pfn: int, block: int) -> None:
    place = pfn * layout.PAGE_WORDS + layout.STATE
    segment.pages[place] = segment.pages[place] & ~layout.BLOCK_MASK | block


# ---- giving back ----


def test_what_a_dead_cpus_load_had_is_free_and_the_others_pages_stay(soak: Soak) -> None:
    segment = soak.segment
    kept, gone = held(segment, 1), held(segment, 0)
    bury(soak, 0)
    assert held(segment, 0) == []
    assert held(segment, 1) == kept
    assert not any(
        state_of(segment, pfn) & layout.KIND_MASK == layout.KIND_ALLOCATED for pfn in gone
    )
    assert_in_order(soak)


def test_a_dead_cpus_pagesets_are_empty_and_the_others_are_not_touched(soak: Soak) -> None:
    segment = soak.segment
    other = (1 * segment.plan.zones + ZONE) * layout.PAGESET_WORDS + layout.P_COUNT
    before = segment.pagesets[other]
    assert before > 0
    bury(soak, 0)
    own = ZONE * layout.PAGESET_WORDS + layout.P_COUNT
    assert segment.pagesets[own] == 0
    assert segment.pagesets[other] == before
    assert_in_order(soak)


def test_a_block_between_list_and_owner_is_not_lost(soak: Soak) -> None:
    """Taken off the pageset's list, and neither counted nor anybody's yet."""
    segment = soak.segment
    p = ZONE * layout.PAGESET_WORDS
    base = segment.pagesets[p + layout.P_LIST_BASE]
    pages = segment.pages
    head = next(
        base + index
        for index in range(layout.PCP_LISTS)
        if pages[(base + index) * layout.PAGE_WORDS + layout.NEXT] != base + index
    )
    pfn = pages[head * layout.PAGE_WORDS + layout.NEXT]
    after = pages[pfn * layout.PAGE_WORDS + layout.NEXT]
    pages[head * layout.PAGE_WORDS + layout.NEXT] = after
    pages[after * layout.PAGE_WORDS + layout.PREVIOUS] = head
    segment.pagesets[p + layout.P_INSIDE] = 1
    assert not audit(segment).clean
    bury(soak, 0)
    assert segment.pagesets[p + layout.P_INSIDE] == 0
    assert_in_order(soak)


def test_a_block_that_says_it_is_taken_and_not_by_whom_is_not_lost(soak: Soak) -> None:
    segment = soak.segment
    pfn = held(segment, 0)[3]
    segment.pages[pfn * layout.PAGE_WORDS + layout.PREVIOUS] = 77_777
    bury(soak, 0)
    assert_in_order(soak)


def test_pages_of_a_block_that_was_being_reshaped_are_not_lost(soak: Soak) -> None:
    segment = soak.segment
    pfn = next(pfn for pfn in held(segment, 0) if state_of(segment, pfn) & layout.ORDER_MASK)
    order = state_of(segment, pfn) & layout.ORDER_MASK
    set_state(segment, pfn, state_of(segment, pfn) & layout.BLOCK_MASK & ~layout.ORDER_MASK)
    assert order > 0
    assert any(breach.check == "tiling" for breach in audit(segment).breaches)
    bury(soak, 0)
    assert_in_order(soak)


def test_marks_of_the_dead_are_taken_away_and_those_of_the_living_stay(soak: Soak) -> None:
    segment = soak.segment
    claimed = pageset_place(segment, 1, ZONE) + layout.P_CLAIM
    segment.pagesets[claimed] = 0 + 1
    segment.loads[1 * layout.LOAD_WORDS + L_BUSY] = 1 + 1
    segment.loads[0 * layout.LOAD_WORDS + L_BUSY] = 0 + 1
    forget_marks(segment, {0})
    assert segment.pagesets[claimed] == 0
    assert segment.loads[0 * layout.LOAD_WORDS + L_BUSY] == 0
    assert segment.loads[1 * layout.LOAD_WORDS + L_BUSY] == 2


def pageset_place(segment: Segment, cpu: int, zone: int) -> int:
    return (cpu * segment.plan.zones + zone) * layout.PAGESET_WORDS


def test_a_publication_that_was_cut_short_can_be_read_again(soak: Soak) -> None:
    segment = soak.segment
    place = 0 * layout.WORKER_WORDS + layout.W_PUBLISHED_SEQUENCE
    segment.workers[place] += 1
    forget_marks(segment, {0})
    assert segment.workers[place] % 2 == 0
    assert read_all_counters(segment)


# ---- tables ----


def test_a_page_that_was_moved_takes_its_old_place_in_the_table(soak: Soak) -> None:
    """The compactor died after the old page was free and before the table knew the new one."""
    segment = soak.segment
    table = segment.loads[layout.LOAD_WORDS + layout.L_TABLE]
    place = next(
        place
        for place, pfn in enumerate(held(segment, 1))
        if state_of(segment, pfn) & layout.ORDER_MASK == 0
    )
    new = segment.tables[table + place]
    old = held(segment, 0)[0]  # of somebody else by now
    segment.tables[table + place] = old
    assert find_claims(segment).stale == {1: [table + place]}
    claims = mended_claims(segment, ())
    assert claims.stale == {}
    assert held(segment, 1)[place] == new
    assert_in_order(soak)


def test_a_block_that_a_reaper_gave_back_leaves_the_table(soak: Soak) -> None:
    segment = soak.segment
    before = held(segment, 1)
    other = held(segment, 0)[0]
    table = segment.loads[layout.LOAD_WORDS + layout.L_TABLE]
    gone = segment.tables[table + 2]
    segment.pages[gone * layout.PAGE_WORDS + layout.PREVIOUS] = 16  # the other load's by now
    segment.tables[table + 2] = other
    mended_claims(segment, ())
    assert held(segment, 1) == [pfn for pfn in before if pfn != gone]
    orders = [state_of(segment, pfn) & layout.ORDER_MASK for pfn in held(segment, 1)]
    pages = sum(1 << order for order in orders)
    assert segment.loads[layout.LOAD_WORDS + layout.L_HELD_PAGES] == pages


# ---- contents ----


def tear(soak: Soak, pfn: int) -> None:
    """Write half a stamp."""
    ram_of(soak).write(pfn * 4096, b"\x01" * 8)


def test_a_page_torn_by_the_dead_is_mended_and_no_violation(soak: Soak) -> None:
    tear(soak, held(soak.segment, 0)[5])
    bury(soak, 0)
    assert_in_order(soak)


def test_more_torn_pages_than_the_dead_can_have_left_are_a_breach(soak: Soak) -> None:
    for pfn in held(soak.segment, 0)[5:7]:
        tear(soak, pfn)
    with pytest.raises(HarnessError, match="2 pages of the dead"):
        bury(soak, 0)


def test_a_torn_page_of_the_living_is_still_a_violation(soak: Soak) -> None:
    tear(soak, held(soak.segment, 1)[5])
    bury(soak, 0)
    assert verified(soak.segment) == 1


# ---- rebuilding ----


def test_lists_and_counters_are_made_anew_from_what_the_living_hold(soak: Soak) -> None:
    segment = soak.segment
    kept = held(segment, 1)
    z = ZONE * layout.ZONE_WORDS
    for word in range(z + layout.Z_NR_FREE, z + layout.Z_NR_FREE + layout.MAX_ORDER):
        segment.zones[word] += 3
    segment.zones[z + layout.Z_FREE_PAGES] -= 100
    free = next(
        pfn
        for pfn in range(4096, segment.plan.max_pfn)
        if state_of(segment, pfn) & layout.KIND_MASK == layout.KIND_FREE
    )
    set_state(segment, free, 0)
    assert not audit(segment).clean
    forget_marks(segment, {0})
    claims = mended_claims(segment, forget_processes(segment, {0}))
    rebuild(segment, claims, (), 1, ram_of(soak))
    assert held(segment, 1) == kept
    assert segment.zones[z + layout.Z_FREE_PAGES_MIN] == segment.zones[z + layout.Z_FREE_PAGES]
    assert_in_order(soak)


def test_a_dead_zone_can_be_had_again_once_it_is_said_to_be_in_order(soak: Soak) -> None:
    base = soak.segment.base
    pid = os.fork()
    if pid == 0:
        os._exit(int(take_zone_lock(base, ZONE, 0) != HELD))
    assert os.waitpid(pid, 0)[1] == 0
    assert take_zone_lock(base, ZONE, RUNNER) == ZONE_DEAD
    soak.segment.zones[ZONE * layout.ZONE_WORDS + layout.Z_DEAD] = 0
    assert take_zone_lock(base, ZONE, RUNNER) == HELD
    give_zone_lock(base, ZONE, RUNNER)


# ---- a report that was under way ----


def isolate(soak: Soak) -> int:
    """A reporter that has isolated blocks of the zone; how many pages."""
    base = soak.segment.base
    register_device(base, REPORTER, ORDER, 32, 0, -1, FOREVER_NS)
    begin_pass(base, REPORTER, 2, 0, FOREVER_NS)
    reporting_hold(
        base, REPORTER, ZONE, ORDER, 0, 32, 8, -1, 32, 0, 0, 0, 0, layout.ISOLATE, FOREVER_NS
    )
    soak.segment.report[layout.R_BUDGET] = 0
    pages = soak.segment.zones[ZONE * layout.ZONE_WORDS + layout.Z_ISOLATED]
    assert pages > 0
    return pages


@pytest.mark.parametrize("submitted", [False, True])
def test_pages_that_a_dead_reporter_had_isolated_are_back_and_not_reported(
    submitted: bool, soak: Soak
) -> None:
    segment = soak.segment
    free_before = segment.zones[ZONE * layout.ZONE_WORDS + layout.Z_FREE_PAGES]
    isolate(soak)
    if submitted:
        request, _, _ = submit_report(segment.base, REPORTER, FOREVER_NS)
        segment.report[layout.R_SERVED] = request
    forget_marks(segment, {REPORTER})
    abandon_report(segment)
    z = ZONE * layout.ZONE_WORDS
    assert segment.zones[z + layout.Z_FREE_PAGES] == free_before
    assert segment.zones[z + layout.Z_ISOLATED] == segment.zones[z + layout.Z_REPORTED] == 0
    assert segment.report[layout.R_REGISTERED] == segment.report[layout.R_REQUEST] == 0
    assert register_device(segment.base, REPORTER, ORDER, 32, 0, -1, FOREVER_NS) == 32
    assert_in_order(soak)


def test_a_rebuilt_zone_leaves_the_host_what_it_works_on(soak: Soak) -> None:
    segment = soak.segment
    pages = isolate(soak)
    submit_report(segment.base, REPORTER, FOREVER_NS)
    away = isolated_blocks(segment)
    segment.zones[ZONE * layout.ZONE_WORDS + layout.Z_FREE_PAGES] += 5
    forget_marks(segment, {0})
    claims = mended_claims(segment, forget_processes(segment, {0}))
    rebuild(segment, claims, away, 1, ram_of(soak))
    assert isolated_blocks(segment) == away
    assert segment.zones[ZONE * layout.ZONE_WORDS + layout.Z_ISOLATED] == pages
    assert audit(segment).breaches == ()


def test_a_rebuilt_zone_without_a_reporter_has_nothing_isolated(soak: Soak) -> None:
    segment = soak.segment
    isolate(soak)
    forget_report(segment)
    rebuild(segment, mended_claims(segment, ()), isolated_blocks(segment), 0, ram_of(soak))
    assert segment.zones[ZONE * layout.ZONE_WORDS + layout.Z_ISOLATED] == 0
    assert_in_order(soak)


def test_ranges_that_a_dead_host_had_punched_are_entered_as_zero(soak: Soak) -> None:
    """Without that the next who takes them would find their stamps gone."""
    segment = soak.segment
    isolate(soak)
    submit_report(segment.base, REPORTER, FOREVER_NS)
    first = isolated_blocks(segment)[0]
    for pfn in (first, first + 1):
        segment.pages[pfn * layout.PAGE_WORDS + layout.STATE] |= layout.STAMPED
        ram_of(soak).write(pfn * 4096, b"\x01" * 16)
    assert isinstance(soak.ram, GuestRam)
    soak.ram.punch(first, 1)
    assert settle_punched(segment, ram_of(soak)) == 1
    assert not state_of(segment, first) & layout.STAMPED
    assert state_of(segment, first + 1) & layout.STAMPED
