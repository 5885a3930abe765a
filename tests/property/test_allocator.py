"""The core against an independent oracle on random requests, and the compiled core against the
plain one.

What is compared: every answer, then every free list and pageset list in order, free pages,
`nr_free`, boost, free_factor, and the type of every page block.
"""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.geometry import ZoneGeometry
from pagesoak.allocator.gfp import (
    ATOMIC,
    KERNEL,
    NORETRY_KERNEL,
    THP,
    USER_MOVABLE,
    parse_packed_gfp,
)
from pagesoak.allocator.kswapd import FAILURES_MAX
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    MAX_ORDER,
    MOVABLE,
    P_BATCH,
    P_FREE_FACTOR,
    P_HIGH,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOSTED,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_INDEX,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NR_FREE,
    Z_RECLAIM_ACTIVE,
    Z_START_PFN,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
)
from pagesoak.base.layout_reclaim import H_NODES, N_FAILURES
from pagesoak.base.statistics import KSWAPD_RUNS, STEALS
from tests.allocator_oracle import Oracle, OraclePageset, OracleZone
from tests.core_helper import CoreGuest, boosts_back, core_guest, kswapd

ROOT = Path(__file__).resolve().parents[2]
CPUS = 2
ZONES = (
    ZoneGeometry("DMA", 0, 1, 2047, 1792, ((256, 2048),)),
    ZoneGeometry("DMA32", 1, 2048, 6144, 6000, ((2048, 8048),)),
)
"""Small enough to run full, with a zone that begins and one that ends inside a page block's reach.
"""
MARKS = ((6, 8, 10), (60, 75, 90))
RESERVE = 24
"""Pages DMA withholds from requests for higher zones."""
PAGESETS = ((6, 1), (40, 7))
"""high and batch; kept small, so that both refills and drains happen all the time."""

GFP = {
    "user": (MOVABLE, USER_MOVABLE),
    "kernel": (UNMOVABLE, KERNEL),
    "reclaimable": (RECLAIMABLE, KERNEL),
    "atomic": (UNMOVABLE, ATOMIC),
    "noretry": (UNMOVABLE, NORETRY_KERNEL),
    "huge": (MOVABLE, THP),
    "dma32": (UNMOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA32")),
}
KINDS = tuple(GFP)
RIGHTS = {"reclaimable": "kernel"}
"""What the oracle calls a kind of request, where its rights have another's name."""

ALLOC, FREE, DRAIN, RECLAIM, KSWAPD = range(5)
Step = tuple[int, int, int, int]
"""What, and three numbers to choose with."""


def prepare(guest: CoreGuest) -> None:
    """The sizes above; kswapd has given up, so that it runs only where a trace says so."""
    guest.segment.header[H_NODES + N_FAILURES] = FAILURES_MAX
    for zone, (marks, (high, batch)) in enumerate(zip(MARKS, PAGESETS, strict=True)):
        guest.set_marks(*marks, zone=zone)
        for cpu in range(CPUS):
            guest.set_pageset_word(P_HIGH, high, zone, cpu)
            guest.set_pageset_word(P_BATCH, batch, zone, cpu)
    for index in range(1, 4):
        guest.set_word(Z_LOWMEM_RESERVE + index, RESERVE, 0)


def oracle_of(guest: CoreGuest) -> Oracle:
    """The oracle in the guest's present state; nothing is in use."""
    zones = []
    for zone in range(guest.zones):
        pagesets = [OraclePageset(*PAGESETS[zone]) for _ in range(CPUS)]
        words = (
            Z_INDEX,
            Z_START_PFN,
            Z_END_PFN,
            Z_MANAGED,
            Z_WMARK_MIN,
            Z_WMARK_LOW,
            Z_WMARK_HIGH,
        )
        reserve = tuple(guest.word(Z_LOWMEM_RESERVE + index, zone) for index in range(4))
        made = OracleZone(
            *(guest.word(word, zone) for word in words),
            reserve,
            guest.word(Z_BOOST_FACTOR, zone),
            pagesets,
        )
        made.lists = guest.free_lists(zone)
        zones.append(made)
    return Oracle(zones)


def assert_same(guest: CoreGuest, oracle: Oracle) -> None:
    """Both are in the same state."""
    for number, zone in enumerate(oracle.zones):
        lists = {key: pfns for key, pfns in zone.lists.items() if pfns}
        assert guest.free_lists(number) == lists
        assert guest.word(Z_FREE_PAGES, number) == zone.free_pages
        assert guest.word(Z_BOOST, number) == zone.boost
        assert guest.word(Z_BOOSTED, number) == zone.kswapd_wanted
        for order in range(MAX_ORDER):
            blocks = sum(len(pfns) for (listed, _), pfns in lists.items() if listed == order)
            assert guest.word(Z_NR_FREE + order, number) == blocks
        for cpu, pageset in enumerate(zone.pagesets):
            kept = {index: pfns for index, pfns in pageset.lists.items() if pfns}
            assert guest.pagesets(number, cpu) == kept
            assert guest.pageset_word(P_FREE_FACTOR, number, cpu) == pageset.factor
    for pfn in range(0, ZONES[-1].end_pfn, 512):
        assert guest.type_of(pfn) == oracle.type_of(pfn)


def play(guest: CoreGuest, oracle: Oracle, steps: Sequence[Step]) -> dict[int, int]:
    """Take the same steps on both; how often each answer below 0 was given."""
    held: list[tuple[int, int]] = []
    refused: dict[int, int] = {}
    for what, first, second, third in steps:
        cpu = third % CPUS
        if what == ALLOC:
            kind = KINDS[second % len(KINDS)]
            # Atomic ones above order 0 reserve page blocks, which the oracle knows nothing of:
            # tests/unit/test_highatomic.py and the audits of test_layouts.py do.
            order = 0 if kind == "atomic" else first % MAX_ORDER
            migratetype, gfp = GFP[kind]
            got = guest.alloc(order, migratetype, gfp, cpu)
            wanted = oracle.alloc(cpu, order, migratetype, RIGHTS.get(kind, kind))
            assert got == wanted, f"{kind} of order {order}"
            if got >= 0:
                held.append((got, order))
            else:
                refused[got] = refused.get(got, 0) + 1
        elif what == FREE and held:
            pfn, order = held.pop(first % len(held))
            assert guest.free(pfn, order, cpu) == 0
            oracle.free(cpu, pfn)
        elif what == DRAIN:
            assert guest.drain() == 0
            oracle.drain_all()
        elif what == RECLAIM:
            zone = first % len(ZONES)
            guest.set_word(Z_RECLAIM_ACTIVE, second % 2, zone)
            oracle.zones[zone].reclaiming = second % 2 == 1
        elif what == KSWAPD:
            boosts_back(guest.base)
            for number, made in enumerate(oracle.zones):
                guest.set_word(Z_BOOSTED, 0, number)
                made.boost, made.kswapd_wanted, made.reclaiming = 0, False, False
    return refused


def random_steps(seed: int, count: int) -> list[Step]:
    """A mix that lets memory run full and empty in turns: small orders mostly."""
    chance = random.Random(seed)  # noqa: S311 - a test's trace, no secret
    steps = []
    filling = 60
    for number in range(count):
        if number % 300 == 0:
            filling = chance.choice((35, 50, 65, 80))
        roll = chance.randrange(1000)
        what = ALLOC if roll < filling * 10 else FREE
        if roll in {0, 1}:
            what = DRAIN
        elif roll in {2, 3, 4}:
            what = RECLAIM
        elif roll in {5, 6}:
            what = KSWAPD
        order = min(chance.randrange(11), chance.randrange(11), chance.randrange(16))
        first = order if what == ALLOC else chance.randrange(1 << 16)
        steps.append((what, first, chance.randrange(1 << 16), chance.randrange(1 << 16)))
    return steps


NUMBERS = st.integers(0, 255)
STEPS = st.lists(
    st.tuples(
        st.sampled_from((ALLOC,) * 12 + (FREE,) * 8 + (DRAIN, RECLAIM, KSWAPD)),
        NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
    max_size=120,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_random_requests_as_the_oracle(steps: list[Step]) -> None:
    with core_guest(*ZONES, cpus=CPUS) as guest:
        prepare(guest)
        oracle = oracle_of(guest)
        play(guest, oracle, steps)
        assert_same(guest, oracle)


@pytest.mark.parametrize("seed", range(4))
def test_long_random_traces_as_the_oracle(seed: int) -> None:
    """Long enough that memory runs out, is stolen from other types, boosted, drained and merged
    again.
    """
    with core_guest(*ZONES, cpus=CPUS) as guest:
        prepare(guest)
        oracle = oracle_of(guest)
        steps = random_steps(seed, 12_000)
        refused: dict[int, int] = {}
        for start in range(0, len(steps), 1000):
            for answer, count in play(guest, oracle, steps[start : start + 1000]).items():
                refused[answer] = refused.get(answer, 0) + count
            assert_same(guest, oracle)
            guest.check()
        assert set(refused) == {-1, -2}, "some requests failed and some killed"
        assert sum(guest.counter(STEALS, cpu) for cpu in range(CPUS)) > 50
        assert guest.counter(KSWAPD_RUNS) > 0


# -- compiled and plain -----------------------------------------------------------------------


def trace_digest(seed: int, count: int) -> str:
    """State after a random trace by the core of this process, a digest of the answers in front."""
    answers = 0
    held: list[tuple[int, int]] = []
    with core_guest(*ZONES, cpus=CPUS) as guest:
        prepare(guest)
        for what, first, second, third in random_steps(seed, count):
            cpu = third % CPUS
            if what == ALLOC:
                order = first % MAX_ORDER
                got = guest.alloc(order, *GFP[KINDS[second % len(KINDS)]], cpu)
                answers = (answers * 31 + got + 3) % (1 << 61)
                if got >= 0:
                    held.append((got, order))
            elif what == FREE and held:
                guest.free(*held.pop(first % len(held)), cpu)
            elif what == DRAIN:
                guest.drain()
            elif what == RECLAIM:
                guest.set_word(Z_RECLAIM_ACTIVE, second % 2, first % len(ZONES))
            elif what == KSWAPD:
                guest.segment.header[H_KSWAPD_WAKE] = 1
                kswapd(guest.base)
        return f"{answers:x} {state_digest(guest.segment)}"


TWIN = (
    "from tests.property.test_allocator import trace_digest; print(trace_digest({seed}, {count}))"
)


def test_compiled_and_plain_core_give_the_same_state() -> None:
    """One trace, two processes: NUMBA_DISABLE_JIT=1 in one of them."""
    digests = set()
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", TWIN.format(seed=11, count=4000)],
            cwd=ROOT,
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.strip())
    assert len(digests) == 1, digests
