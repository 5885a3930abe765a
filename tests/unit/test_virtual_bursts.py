"""How long bursts are changes nothing: operation by operation, a run ends in the same state."""

from itertools import product

import pytest

from pagesoak.allocator import guest
from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.geometry import guest_zones
from pagesoak.allocator.loads import SteadySettings, steady
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.clock import wait_within
from pagesoak.base.costs import Costs
from pagesoak.base.generator import seed_words
from pagesoak.base.layout import open_core
from pagesoak.base.layout_virtual import H_YIELD, W_CLOCK_NS
from pagesoak.base.native import entry
from pagesoak.base.recorder import read_all_events
from pagesoak.base.segment import Segment
from pagesoak.base.units import MIB
from pagesoak.base.virtual import make_virtual
from pagesoak.engine.virtual import BURST_NS, VirtualDriver
from pagesoak.host.device import HostModel
from pagesoak.host.virtual_ram import open_virtual_ram
from pagesoak.host.worker import host_worker
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.worker import reporter_worker

ZONES = guest_zones(64 * MIB)
TARGET_PAGES = 2048
TABLE_WORDS = 8192
RATE_PER_SECOND = 20_000
REPORTER, HOST = 1, 2


def make_guest(*, touch: bool) -> Segment:
    """64 MiB, and one steady load."""
    plan = plan_from_geometry(ZONES, cpus=1, loads=1, table_words=TABLE_WORDS, replay_events=0)
    segment = Segment.create(plan._replace(content_pages=plan.max_pfn if touch else 0))
    populate_synthetic(segment, ZONES)
    words = segment.loads
    words[layout.L_OWNER] = layout.OWNER_FIRST_LOAD
    words[layout.L_CAPACITY] = TABLE_WORDS
    words[layout.L_TARGET_PAGES] = TARGET_PAGES
    for order in range(layout.MAX_ORDER):
        words[layout.L_WEIGHTS + order] = 900 if order < 2 else 1000
    words[layout.L_WEIGHTS] = 700
    for number, weight in enumerate((150, 950, 1000)):
        words[layout.L_WEIGHTS + layout.MAX_ORDER + number] = weight
    for number, word in enumerate(seed_words(1, 0)):
        words[layout.L_RANDOM + number] = word
    return segment


def ends(burst_ns: int, *, rate: int, touch: bool, duration_ns: int) -> dict[str, object]:
    """What a run with such bursts ends in."""
    segment = make_guest(touch=touch)
    ram = open_virtual_ram(segment, touch=touch)
    settings = ReporterSettings(zones=len(ZONES), order=5, delay_ns=10_000_000)
    workers = {
        0: guest_worker([steady(SteadySettings(0, 0, rate))]),
        REPORTER: reporter_worker(segment.base, REPORTER, Mainline(), settings),
        HOST: host_worker(segment.base, HOST, ram, HostModel()),
    }
    driver = VirtualDriver(segment, workers, costs=Costs(), burst_ns=burst_ns)
    driver.start()
    driver.run(driver.started_ns + duration_ns)
    driver.finish()
    counters = st.read_all_counters(segment)
    events = read_all_events(segment)
    found = {
        "digest": state_digest(segment),
        "counters": counters,
        "events": events,
        "contents": segment.contents.tolist(),
        "clocks": [segment.loads[layout.L_HELD], driver.now_ns],
    }
    segment.close()
    assert counters[st.VIOLATIONS] == 0
    assert counters[st.REPORT_CALLS] > 0
    assert counters[st.ALLOC_REQUESTS] > duration_ns * RATE_PER_SECOND // 4 // 10**9
    return found


@pytest.mark.parametrize(
    ("rate", "touch"), [(RATE_PER_SECOND, True), (RATE_PER_SECOND, False), (0, True)]
)
def test_bursts_and_single_operations_end_alike(rate: int, touch: bool) -> None:
    duration_ns = 150_000_000 if rate else 20_000_000
    bursts = ends(BURST_NS, rate=rate, touch=touch, duration_ns=duration_ns)
    singles = ends(1, rate=rate, touch=touch, duration_ns=duration_ns)
    assert bursts == singles


# ---- one look at the clock ----


@entry
def one_look(base: int, due_ns: int, until_ns: int) -> int:
    """What a replay asks before each request."""
    return guest.ends_before(open_core(base), 0, due_ns, until_ns)


@entry
def two_looks(base: int, due_ns: int, until_ns: int) -> int:
    """What other loads ask, one after the other."""
    core = open_core(base)
    if not wait_within(core, 0, due_ns, until_ns):
        return guest.NOT_DUE
    return guest.ends_now(core, 0, 0, guest.CLOCK_LOOKS_VIRTUAL, until_ns)


@pytest.mark.parametrize("word", [None, H_YIELD, layout.H_STOP, layout.H_KSWAPD_WAKE])
def test_one_look_at_the_clock_says_and_does_what_two_do(word: int | None) -> None:
    segment = make_guest(touch=False)
    make_virtual(segment, Costs())
    if word is not None:
        segment.header[word] = 1
    said = set()
    for clock_ns, due_ns, until_ns in product((10, 20, 30), repeat=3):
        ended = []
        for look in (one_look, two_looks):
            segment.workers[W_CLOCK_NS] = clock_ns
            ended.append((look(segment.base, due_ns, until_ns), segment.workers[W_CLOCK_NS]))
        assert ended[0] == ended[1]
        said.add(ended[0][0])
    assert guest.NOT_DUE in said
    assert len(said) == (3 if word is None else 2)
    segment.close()
