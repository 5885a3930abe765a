"""Pages of another node in a CPU's pagesets: when they go back (docs/model.md, 5)."""

from collections.abc import Iterator

import pytest

from pagesoak.allocator.geometry import guest_zones
from pagesoak.allocator.gfp import USER_MOVABLE
from pagesoak.allocator.vmstat import refresh_remote_pagesets
from pagesoak.base.clock import now_ns
from pagesoak.base.layout import P_COUNT, WORKER_WORDS, Z_FREE_PAGES, open_core
from pagesoak.base.layout_virtual import H_VIRTUAL, W_CLOCK_NS
from pagesoak.base.native import entry
from tests.core_helper import CoreGuest, core_guest

GIB = 1 << 30
SECOND_NS = 1_000_000_000
DMA, LOCAL, REMOTE = range(3)


@entry
def look(base: int, cpu: int) -> int:
    """`refresh_remote_pagesets` for a test; returns 0."""
    core = open_core(base)
    refresh_remote_pagesets(core, cpu, now_ns(core, cpu))
    return 0


class Clocked:
    """A guest of two nodes with a CPU in each, on clocks of their own."""

    def __init__(self, guest: CoreGuest) -> None:
        self.guest = guest
        guest.segment.header[H_VIRTUAL] = 1
        self.pass_time(SECOND_NS)

    def pass_time(self, nanoseconds: int, cpu: int = 0) -> None:
        """The CPU's clock goes on."""
        self.guest.segment.workers[cpu * WORKER_WORDS + W_CLOCK_NS] += nanoseconds

    def look(self, seconds: int = 1) -> int:
        """So many looks of CPU 0, a second apart; pages of node 1 it keeps then."""
        for _ in range(seconds):
            look(self.guest.base, 0)
            self.pass_time(SECOND_NS)
        return self.kept()

    def kept(self, zone: int = REMOTE, cpu: int = 0) -> int:
        """Pages in a pageset."""
        return self.guest.pageset_word(P_COUNT, zone, cpu)


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    with core_guest(*guest_zones(GIB, nodes=2), cpus=2) as guest:
        yield Clocked(guest)


def take_remote(clocked: Clocked, pages: int) -> list[int]:
    """CPU 0 takes pages of node 1: its own zones are at their marks."""
    clocked.guest.take_down_to(593, LOCAL)
    clocked.guest.take_down_to(400, DMA)
    return [clocked.guest.alloc(gfp=USER_MOVABLE) for _ in range(pages)]


def test_a_batch_goes_back_at_the_third_look_and_every_third_from_then(clocked: Clocked) -> None:
    """40 pages taken in two refills of 31, all given back: 62 pages, two batches."""
    for pfn in take_remote(clocked, 40):
        clocked.guest.free(pfn)
    assert clocked.look(2) == 62
    free = clocked.guest.word(Z_FREE_PAGES, REMOTE)
    assert clocked.look() == 31
    assert clocked.guest.word(Z_FREE_PAGES, REMOTE) == free + 31
    assert clocked.look(2) == 31
    assert clocked.look() == 0
    assert clocked.look(10) == 0


def test_use_in_between_begins_the_count_again(clocked: Clocked) -> None:
    (pfn,) = take_remote(clocked, 1)
    assert clocked.look(2) == 30
    clocked.guest.free(pfn)
    assert clocked.look(2) == 31
    clocked.guest.alloc()
    assert clocked.look(2) == 30
    assert clocked.look() == 0


def test_a_take_and_a_give_in_between_are_no_change(clocked: Clocked) -> None:
    """What is folded is the sum, and that is 0."""
    take_remote(clocked, 1)
    assert clocked.look(2) == 30
    clocked.guest.free(clocked.guest.alloc())
    assert clocked.look() == 0


def test_looks_are_a_second_apart(clocked: Clocked) -> None:
    take_remote(clocked, 1)
    clocked.look()
    for _ in range(20):
        look(clocked.guest.base, 0)
        clocked.pass_time(SECOND_NS // 10)
    assert clocked.kept() == 0, "three looks in two seconds and a bit"
    take_remote(clocked, 1)
    for _ in range(19):
        look(clocked.guest.base, 0)
        clocked.pass_time(SECOND_NS // 10)
    assert clocked.kept() == 30


def test_the_own_nodes_pages_stay(clocked: Clocked) -> None:
    clocked.guest.alloc(cpu=0)
    clocked.guest.alloc(cpu=1)
    clocked.look(10)
    assert (clocked.kept(LOCAL, 0), clocked.kept(REMOTE, 1)) == (30, 30)


def test_a_cpu_looks_at_its_own_pagesets_only(clocked: Clocked) -> None:
    """CPU 1 keeps pages of node 0; CPU 0's looks do not concern it."""
    clocked.guest.take_down_to(635, REMOTE)
    clocked.guest.alloc(cpu=1)
    clocked.look(10)
    assert clocked.kept(LOCAL, 1) == 30


def test_one_node_has_no_others() -> None:
    with core_guest(*guest_zones(GIB)) as guest:
        clocked = Clocked(guest)
        guest.alloc()
        for _ in range(10):
            look(guest.base, 0)
            clocked.pass_time(SECOND_NS)
        assert clocked.kept(1) == 62
