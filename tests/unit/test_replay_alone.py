"""A replay that has a CPU for itself moves the CPU's virtual clock on; nothing else changes."""

from array import array
from collections.abc import Iterator

import pytest

from pagesoak.allocator import guest, replay
from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.geometry import guest_zones
from pagesoak.allocator.gfp import USER_MOVABLE
from pagesoak.allocator.loads import ReplaySettings
from pagesoak.allocator.loads import replay as replay_load
from pagesoak.allocator.pace import set_speed
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.replay_word import ALLOC, FREE, pack_request
from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base.costs import Costs
from pagesoak.base.layout_virtual import W_CLOCK_NS
from pagesoak.base.recorder import read_all_events
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import read_all_counters
from pagesoak.base.units import MIB
from pagesoak.base.virtual import make_virtual
from pagesoak.engine.virtual import VirtualDriver
from pagesoak.host.device import HostModel
from pagesoak.host.virtual_ram import open_virtual_ram
from pagesoak.host.worker import host_worker
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.worker import reporter_worker

ZONES = guest_zones(64 * MIB)
RECORDED_PPM = 1_000_000
ROUNDS = 40
STEP_NS = 1_000_000
DURATION_NS = 2 * ROUNDS * STEP_NS
REPORTER, HOST = 1, 2


def make_guest() -> Segment:
    """64 MiB, and a load that takes a large block each 2 ms and gives it back a millisecond
    later.
    """
    plan = plan_from_geometry(ZONES, cpus=1, loads=1, table_words=ROUNDS, replay_events=2 * ROUNDS)
    made = Segment.create(plan)
    populate_synthetic(made, ZONES)
    made.report[layout.R_EVENTFD] = -1
    made.loads[layout.L_OWNER] = layout.OWNER_FIRST_LOAD
    made.loads[layout.L_CAPACITY] = ROUNDS
    made.loads[layout.L_EVENT_COUNT] = 2 * ROUNDS
    requests = array("q")
    for number in range(ROUNDS):
        order = number % layout.MAX_ORDER
        taken = pack_request(ALLOC, order, layout.MOVABLE, number, USER_MOVABLE)
        given = pack_request(FREE, order, 0, number, 0)
        requests.extend((2 * number * STEP_NS, taken, (2 * number + 1) * STEP_NS, given))
    made.replay[: len(requests)] = memoryview(requests)
    made.tables[:ROUNDS] = memoryview(array("i", [-1]) * ROUNDS)
    return made


@pytest.fixture
def segment() -> Iterator[Segment]:
    """That guest."""
    made = make_guest()
    yield made
    made.close()


def ends(segment: Segment, *, alone: bool) -> dict[str, object]:
    """What a virtual run with that load ends in."""
    settings = ReporterSettings(zones=len(ZONES), order=5, delay_ns=5_000_000)
    workers = {
        0: guest_worker([replay_load(ReplaySettings(0, 0, RECORDED_PPM, alone))]),
        REPORTER: reporter_worker(segment.base, REPORTER, Mainline(), settings),
        HOST: host_worker(segment.base, HOST, open_virtual_ram(segment, touch=False), HostModel()),
    }
    driver = VirtualDriver(segment, workers, costs=Costs())
    driver.start()
    driver.run(driver.started_ns + DURATION_NS)
    driver.finish()
    assert segment.loads[layout.L_CURSOR] == 2 * ROUNDS
    return {
        "digest": state_digest(segment),
        "counters": read_all_counters(segment),
        "events": read_all_events(segment),
    }


def test_a_replay_alone_on_its_cpu_ends_as_one_that_sleeps(segment: Segment) -> None:
    other = make_guest()
    assert ends(segment, alone=True) == ends(other, alone=False)
    other.close()


@pytest.mark.parametrize(("idles", "ended"), [(1, guest.AGAIN), (0, guest.DONE)])
def test_only_a_cpu_without_another_load_idles_to_the_next_request(
    segment: Segment, idles: int, ended: int
) -> None:
    make_virtual(segment, Costs())
    set_speed(segment.base, 0, 0, RECORDED_PPM, 0)
    until_ns = STEP_NS // 2
    found = replay.replay(segment.base, 0, 0, -1, idles, until_ns)
    assert found == (ended, STEP_NS)
    assert segment.loads[layout.L_CURSOR] == 1
    clock_ns = segment.workers[W_CLOCK_NS]
    assert (clock_ns == STEP_NS) if idles else (0 < clock_ns < until_ns)
