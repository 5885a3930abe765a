"""kswapd: what wakes it, what it does to the boost and to pagesets, when it gives up."""

import gzip
from pathlib import Path

import pytest

from pagesoak.allocator.gfp import USER_MOVABLE, ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE
from pagesoak.allocator.kswapd import FAILURES_MAX, wakeup_kswapd
from pagesoak.allocator.node import node_at
from pagesoak.allocator.page_alloc import KILLED
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOSTED,
    Z_FREE_PAGES,
    Z_RECLAIM_ACTIVE,
    open_core,
)
from pagesoak.base.layout_reclaim import (
    H_NODES,
    N_AWAKE,
    N_FAILURES,
    N_HIGHEST_ZONE,
    N_ORDER,
    N_RUNNING,
)
from pagesoak.base.native import entry
from pagesoak.base.statistics import KSWAPD_RUNS, KSWAPD_WAKES, STALLS, THROTTLES
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone, kswapd

RAW = Path(__file__).parents[1] / "recordings" / "oom" / "raw"
DMA, DMA32 = 0, 1


def recorded_counters(file: Path) -> dict[str, int]:
    """A recorded /proc/vmstat."""
    with gzip.open(file, "rt") as lines:
        return {name: int(value) for name, value in map(str.split, lines)}


def node(guest: CoreGuest, word: int) -> int:
    """A word of node 0's record."""
    return int(guest.segment.header[H_NODES + word])


def set_node(guest: CoreGuest, word: int, value: int) -> None:
    """Change a word of node 0's record."""
    guest.segment.header[H_NODES + word] = value


def wake(guest: CoreGuest, gfp: int = USER_MOVABLE) -> bool:
    """Whether a request that must take the slow path wakes kswapd."""
    guest.alloc(gfp=gfp)
    return node(guest, N_AWAKE) == 1


@entry
def wake_up(base: int, order: int, highest_zone: int) -> int:
    """`wakeup_kswapd` of node 0 for a request; whether it is awake."""
    core = open_core(base)
    wakeup_kswapd(core, 0, 0, order, highest_zone)
    return core.header[node_at(0) + N_AWAKE]


# -- what wakes it --------------------------------------------------------------------------------


@pytest.mark.parametrize(("dma_pages", "awake"), [(3840, 0), (496, 0), (495, 1)])
def test_ks_1_an_untouched_dma_lets_kswapd_sleep(dma_pages: int, awake: int) -> None:
    """KS-1: the node is balanced while DMA has more than its high mark of 31 and the 464 it
    withholds, however empty DMA32 is.
    """
    with core_guest(*G512) as guest:
        guest.take_down_to(0, DMA32)
        if dma_pages < 3840:
            guest.take_down_to(dma_pages, DMA)
        assert wake_up(guest.base, 0, ZONE_MOVABLE) == awake
        assert guest.segment.header[H_KSWAPD_WAKE] == awake


def test_ks_1_users_eat_dma_before_they_wake_kswapd() -> None:
    """DMA serves a user down to 490 (low 26 and the 464); only then somebody wakes kswapd."""
    with core_guest(*G512) as guest:
        guest.take_down_to(600, DMA32)
        while guest.word(Z_FREE_PAGES, DMA) > 490:
            assert not wake(guest)
        assert wake(guest)


def test_a_request_for_dma32_finds_dma_as_well() -> None:
    """What counts is the highest zone of the request; DMA withholds as much from DMA32."""
    with core_guest(*G512) as guest:
        guest.take_down_to(600, DMA32)
        guest.take_down_to(496, DMA)
        assert wake_up(guest.base, 0, ZONE_DMA32) == 0
        assert wake_up(guest.base, 0, ZONE_DMA) == 0
        guest.take_down_to(495, DMA)
        assert wake_up(guest.base, 0, ZONE_DMA) == 0, "a request for DMA pays no reserve"
        assert wake_up(guest.base, 0, ZONE_DMA32) == 1
        assert node(guest, N_HIGHEST_ZONE) == ZONE_DMA32 + 1


def test_above_the_high_mark_nobody_is_woken() -> None:
    """848 is above low (847) but not above high (1016): the slow path is what wakes."""
    with dma32_alone() as guest:
        guest.set_marks(678, 1100, 1016)
        guest.take_down_to(1050)
        assert not wake(guest)
        guest.drain()
        guest.take_down_to(1016)
        assert wake(guest)


def test_an_order_without_a_block_wakes_though_pages_suffice() -> None:
    with core_guest(G512[1]) as guest:
        guest.set_marks(10, 4000, 20)
        guest.take_all()
        for page in range(12_288, 14_288, 2):
            guest.give(page)
        assert not wake(guest)
        assert guest.alloc(3, UNMOVABLE) == KILLED
        assert node(guest, N_AWAKE) == 1
        assert node(guest, N_ORDER) == 3


def test_a_boost_wakes_it_over_a_balanced_node() -> None:
    with core_guest(*G512) as guest:
        guest.set_word(Z_BOOST, 512, DMA32)
        guest.set_word(Z_BOOSTED, 1, DMA32)
        kswapd(guest.base)
        assert guest.word(Z_BOOST, DMA32) == 512, "nobody told the burst to let it run"
        guest.segment.header[H_KSWAPD_WAKE] = 1
        kswapd(guest.base)
        assert guest.word(Z_BOOST, DMA32) == guest.word(Z_BOOSTED, DMA32) == 0
        assert guest.counter(KSWAPD_RUNS) == guest.counter(KSWAPD_WAKES) == 1
        assert node(guest, N_FAILURES) == 1, "it freed nothing"
        assert node(guest, N_AWAKE) == 0


# -- giving up ------------------------------------------------------------------------------------


def test_sixteen_fruitless_runs_and_it_gives_up() -> None:
    """Nothing is reclaimable: it tries on at once, until it is hopeless; then nobody wakes it, and
    a boost stays.
    """
    with dma32_alone() as guest:
        guest.take_down_to(800)
        assert wake(guest)
        kswapd(guest.base)
        assert guest.counter(KSWAPD_RUNS) == FAILURES_MAX == 16
        assert node(guest, N_FAILURES) == 16
        assert node(guest, N_AWAKE) == guest.segment.header[H_KSWAPD_WAKE] == 0
        guest.drain()
        guest.take_down_to(800)
        assert not wake(guest)
        guest.set_word(Z_BOOST, 512)
        guest.set_word(Z_BOOSTED, 1)
        guest.segment.header[H_KSWAPD_WAKE] = 1
        kswapd(guest.base)
        assert (guest.word(Z_BOOST), guest.word(Z_BOOSTED)) == (512, 0)
        assert guest.counter(KSWAPD_RUNS) == 16


def test_the_recorded_kernel_gave_up_after_as_many_runs() -> None:
    """The first run of a boot (500 ms) and a later one: 16 runs, 15 of which could not end in
    sleep, and never another; 17 stalls a kill.
    """
    first, later = (recorded_counters(RAW / f"A_w{window}_s1.vmstat1.gz") for window in (500, 100))
    for counters in (first, later):
        assert counters["pageoutrun"] == FAILURES_MAX
        assert counters["kswapd_high_wmark_hit_quickly"] == FAILURES_MAX - 1
        assert counters["allocstall_movable"] == 17 * counters["oom_kill"]
    assert later["oom_kill"] > first["oom_kill"] > 0


def test_boosts_alone_make_it_give_up_too() -> None:
    with core_guest(*G512) as guest:
        for times in range(1, 19):
            guest.set_word(Z_BOOST, 512, DMA32)
            guest.set_word(Z_BOOSTED, 1, DMA32)
            guest.segment.header[H_KSWAPD_WAKE] = 1
            kswapd(guest.base)
            assert guest.word(Z_BOOST, DMA32) == (0 if times <= 16 else 512)
            assert node(guest, N_FAILURES) == min(times, 16)


def test_what_was_boosted_meanwhile_stays_boosted() -> None:
    """Only the boost that the run saw when it began is taken back."""
    with dma32_alone() as guest:
        guest.set_word(Z_BOOST, 1524)
        guest.set_word(Z_BOOSTED, 1)
        guest.segment.header[H_KSWAPD_WAKE] = 1
        set_node(guest, N_FAILURES, 15)
        kswapd(guest.base)
        assert guest.word(Z_BOOST) == 0
        assert guest.word(Z_RECLAIM_ACTIVE) == 0


def test_who_runs_it_already_is_left_alone() -> None:
    with dma32_alone() as guest:
        guest.take_down_to(800)
        assert wake(guest)
        set_node(guest, N_RUNNING, 2)
        kswapd(guest.base)
        assert guest.counter(KSWAPD_RUNS) == 0
        assert guest.segment.header[H_KSWAPD_WAKE] == 1, "it is to be looked after again"
        set_node(guest, N_RUNNING, 0)
        kswapd(guest.base)
        assert guest.counter(KSWAPD_RUNS) == 16


# -- throttling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("free_pages", "throttled"), [(340, 0), (339, 1)])
def test_half_of_min_holds_up_direct_reclaim_until_kswapd_gave_up(
    free_pages: int, throttled: int
) -> None:
    """Min 678. Free pages count as reclaimable, so the zone is looked at though nothing is."""
    with dma32_alone() as guest:
        guest.take_down_to(free_pages)
        guest.set_word(Z_FREE_PAGES, free_pages)
        assert guest.alloc() == KILLED
        assert guest.counter(THROTTLES) == throttled
        assert guest.counter(KSWAPD_RUNS) == 16 * throttled
        assert guest.counter(STALLS) >= 1
