"""The pageset lock between processes: never two inside, with membarrier and without."""

import os
import time
from collections.abc import Iterator

import pytest

from pagesoak.allocator.pageset_lock import (
    claim_pageset,
    enter_pageset,
    leave_pageset,
    unclaim_pageset,
)
from pagesoak.base import layout
from pagesoak.base.external import membarrier_register, membarrier_supported
from pagesoak.base.layout import H_STOP, P_COUNT, open_core
from pagesoak.base.native import entry
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment

CLAIMS = 200
"""Times somebody else gets in before the worker is stopped."""
SECONDS_MAX = 60.0
"""For a machine that is busy with other things."""


@entry
def count_inside(base: int, times: int) -> int:
    """The CPU's worker: in, count as two steps, out; how often it got in."""
    core = open_core(base)
    inside = 0
    for _ in range(times):
        if core.header[H_STOP] != 0:
            break
        if enter_pageset(core, 0):
            before = core.pagesets[P_COUNT]
            core.pagesets[P_COUNT] = before + 1
            inside += 1
            leave_pageset(core, 0)
    return inside


@entry
def count_claimed(base: int, steps: int) -> int:
    """Somebody else: claim, count in many steps, give back; how many steps it made."""
    core = open_core(base)
    if not claim_pageset(core, 0, 7):
        return 0
    for _ in range(steps):
        before = core.pagesets[P_COUNT]
        core.pagesets[P_COUNT] = before + 1
    unclaim_pageset(core, 0)
    return steps


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(SegmentPlan(1, 1, 4096, 4, 0, 0, 0))
    yield made
    made.close()


def child_counts(segment: Segment, report: int) -> None:
    membarrier_register()
    inside = count_inside(segment.base, 1 << 40)
    os.write(report, inside.to_bytes(8, "little"))
    os._exit(0)


@pytest.mark.parametrize("fenced", [0, 1], ids=["membarrier", "fence each time"])
def test_never_two_inside(segment: Segment, fenced: int) -> None:
    if not fenced and not membarrier_supported():
        pytest.skip("membarrier(2) is missing on this system")
    segment.header[layout.H_FENCED] = fenced
    count_inside(segment.base, 1)  # compiled before the fork
    claimed = count_claimed(segment.base, 1)
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        child_counts(segment, writable)
    os.close(writable)
    claims = 0
    deadline = time.monotonic() + SECONDS_MAX
    while claims < CLAIMS and time.monotonic() < deadline:
        steps = count_claimed(segment.base, 50)
        claimed += steps
        claims += bool(steps)
        time.sleep(0.001)
    segment.header[layout.H_STOP] = 1
    os.waitpid(pid, 0)
    inside = int.from_bytes(os.read(readable, 8), "little")
    os.close(readable)
    assert claims == CLAIMS
    assert inside > CLAIMS
    assert segment.pagesets[P_COUNT] == 1 + inside + claimed


def test_claim_gives_up_on_a_worker_that_died_inside(segment: Segment) -> None:
    segment.pagesets[layout.P_INSIDE] = 1
    began = time.monotonic()
    assert count_claimed(segment.base, 1) == 0
    assert time.monotonic() - began < 5
    assert segment.pagesets[layout.P_CLAIM] == 0, "the claim is taken back"


def test_worker_goes_past_a_claimed_pageset(segment: Segment) -> None:
    segment.pagesets[layout.P_CLAIM] = 7
    assert count_inside(segment.base, 10) == 0
    assert segment.pagesets[layout.P_INSIDE] == 0
