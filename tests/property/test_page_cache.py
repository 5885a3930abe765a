"""Random requests, accesses, writes, scans and kills over a full page cache: nothing is lost,
everything ends, and the compiled core does what the plain one does.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagesoak.allocator.audit import audit
from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.geometry import ZoneGeometry
from pagesoak.allocator.gfp import ATOMIC, KERNEL, NORETRY_KERNEL, THP, USER_MOVABLE
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    L_RANDOM,
    MOVABLE,
    PAGEBLOCK_ORDER,
    UNMOVABLE,
    Z_FREE_PAGES,
    Z_LOWMEM_RESERVE,
)
from pagesoak.base.layout_reclaim import L_OOM_SCORE_ADJ, L_WRITE_PERMILLE
from pagesoak.base.layout_virtual import H_VIRTUAL
from pagesoak.base.statistics import PAGES_STOLEN_DIRECT, PAGES_STOLEN_KSWAPD, VIOLATIONS
from tests.core_helper import kswapd
from tests.files_guest import ACCESS, END_WRITEBACK, RUN_FLUSHER, FilesGuest, files_guest, shrink

ROOT = Path(__file__).resolve().parents[2]
ZONES = (
    ZoneGeometry("DMA", 0, 1, 2047, 1792, ((256, 2048),)),
    ZoneGeometry("DMA32", 1, 2048, 6144, 6000, ((2048, 8048),)),
)
PAGES = 5000
REQUESTS = (
    (0, MOVABLE, USER_MOVABLE),
    (0, UNMOVABLE, KERNEL),
    (2, UNMOVABLE, KERNEL),
    (0, UNMOVABLE, ATOMIC),
    (3, UNMOVABLE, NORETRY_KERNEL),
    (PAGEBLOCK_ORDER, MOVABLE, THP),
)
READ, WRITE, BURST, REQUEST, FREE, KSWAPD, SHRINK, FLUSH, WRITTEN = range(9)
Step = tuple[int, int, int]


def prepare(guest: FilesGuest) -> None:
    """Small marks; the load cannot be killed, so that what cannot be served is told so."""
    for zone, marks in enumerate(((6, 8, 10), (60, 75, 90))):
        guest.set_marks(*marks, zone=zone)
        for index in range(zone + 1, 4):
            guest.set_word(Z_LOWMEM_RESERVE + index, 24 * (1 - zone), zone)
    guest.set_load(L_OOM_SCORE_ADJ, -1000)
    guest.set_load(L_WRITE_PERMILLE, 300)
    for word in range(4):
        guest.set_load(L_RANDOM + word, word + 1)


def play(guest: FilesGuest, steps: list[Step]) -> int:
    """Take the steps; a number that depends on every answer."""
    held: list[tuple[int, int]] = []
    answers = 0
    for what, first, second in steps:
        got = 0
        if what in (READ, WRITE):
            got = guest.step(ACCESS, first % PAGES, writes=what == WRITE)
        elif what == BURST:
            got = guest.run(second % 200)
        elif what == REQUEST:
            order, migratetype, gfp = REQUESTS[first % len(REQUESTS)]
            got = guest.alloc(order, migratetype, gfp)
            if got >= 0:
                held.append((got, order))
        elif what == FREE and held:
            guest.free(*held.pop(first % len(held)))
        elif what == KSWAPD:
            guest.segment.header[H_KSWAPD_WAKE] = 1
            kswapd(guest.base)
        elif what == SHRINK:
            got = sum(shrink(guest.base, first % 13, second % 4, 32, first & 1, second & 1))
        elif what in (FLUSH, WRITTEN):
            guest.written_after(second % 3 * (1 << 40))
            guest.step(RUN_FLUSHER if what == FLUSH else END_WRITEBACK)
        answers = (answers * 31 + got + 9) % (1 << 61)
    return answers


def random_steps(seed: int, count: int) -> list[Step]:
    """A mix that fills memory with files and with requests in turns."""
    chance = random.Random(seed)  # noqa: S311 - a test's trace, no secret
    kinds = (READ, READ, WRITE, BURST, REQUEST, REQUEST, FREE, KSWAPD, SHRINK, FLUSH, WRITTEN)
    steps = []
    for number in range(count):
        what = chance.choice(kinds)
        if number // 300 % 2 and what in (KSWAPD, SHRINK, FREE):
            what = REQUEST
        steps.append((what, chance.randrange(1 << 16), chance.randrange(1 << 16)))
    return steps


STEPS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 65_535), st.integers(0, 65_535)), max_size=150
)


@given(STEPS, st.integers(0, 6000))
@settings(max_examples=30, deadline=None)
def test_nothing_is_lost_whatever_comes(steps: list[Step], filled: int) -> None:
    """Every step ends, and the state is whole after it."""
    with files_guest(*ZONES, pages=PAGES) as guest:
        prepare(guest)
        guest.run(filled)
        play(guest, steps)
        assert audit(guest.segment).clean
        assert guest.counter(VIOLATIONS) == 0


@pytest.mark.parametrize("seed", range(3))
def test_long_random_traces_reclaim_and_lose_nothing(seed: int) -> None:
    with files_guest(*ZONES, pages=PAGES) as guest:
        prepare(guest)
        steps = random_steps(seed, 4000)
        for start in range(0, len(steps), 500):
            play(guest, steps[start : start + 500])
            guest.check()
        assert guest.counter(PAGES_STOLEN_DIRECT) > 0
        assert guest.counter(PAGES_STOLEN_KSWAPD) > 0
        assert sum(guest.word(Z_FREE_PAGES, zone) for zone in (0, 1)) >= 0


def trace_digest(seed: int, count: int) -> str:
    """State after a random trace by the core of this process, a digest of the answers in front.

    On a virtual clock that stands still: what is written is written at once, or never, and nothing
    is dirty for too long while the core is being compiled.
    """
    with files_guest(*ZONES, pages=PAGES) as guest:
        guest.segment.header[H_VIRTUAL] = 1
        prepare(guest)
        answers = play(guest, random_steps(seed, count))
        return f"{answers:x} {state_digest(guest.segment)}"


TWIN = (
    "from tests.property.test_page_cache import trace_digest; print(trace_digest({seed}, {count}))"
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_and_plain_core_give_the_same_state() -> None:
    """One trace, two processes: NUMBA_DISABLE_JIT=1 in one of them."""
    digests = set()
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", TWIN.format(seed=11, count=3000)],
            cwd=ROOT,
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1
