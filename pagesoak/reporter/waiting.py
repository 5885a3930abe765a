"""A zone that is left alone until more of it is free.

A policy may ask that an isolation leaves so many pages free (`policy.Hold.leave_free_pages`).
Where no block can be isolated under that and none is pending, the zone *waits*: a free of any
order that lifts its free pages to that floor and one block asks for a pass (`allocator.notify`
tests that only while a zone waits); and because a floor may come down by itself, as old demands
are forgotten, the policy is asked again after a while, each time after twice as long. Zones stop
waiting when a pass begins. A reporter that waits is at rest: no block is isolated, no pass is
under way.

No kernel does this; it belongs to `reporter.policies.headroom`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pagesoak.allocator.notify import page_reporting_request, request_for_free_pages
from pagesoak.base import recorder
from pagesoak.base.layout import (
    R_STATE,
    Z_FREE_PAGES,
    ZONE_WORDS,
    open_core,
)
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import entry
from pagesoak.base.recorder import record
from pagesoak.base.statistics import REPORTER_WAITS, count
from pagesoak.reporter.views import ListOf

RETRY_FIRST_NS = 2_000_000_000
"""From the pass that ends waiting to the first look: as from pass to pass."""
RETRY_LAST_NS = 60_000_000_000
"""A tenth of the time that demands are remembered for: a floor comes down in such steps."""
NO_BLOCK = -1
"""In place of the block that caused a request."""
NEVER_NS = 0
"""In place of a moment: nothing waits."""


@entry
def wait_for_free(
    base: int, worker: int, zone: int, order: int, floor_pages: int, retry_ns: int, _until_ns: int
) -> int:
    """Let frees of the zone ask for a pass from `floor_pages` and one block of the order on.
    Returns the free pages; -1 if the lock was not to be had.
    """
    core = open_core(base)
    if lock_zone(core, zone, worker) != HELD:
        return -1
    z = zone * ZONE_WORDS
    free = core.zones[z + Z_FREE_PAGES]
    core.zones[z + Z_WAIT_FREE_PAGES] = floor_pages + (1 << order)
    record(core, worker, recorder.WAITING, zone, order, free, floor_pages, retry_ns)
    count(core, worker, REPORTER_WAITS, 1)
    request_for_free_pages(core, worker, zone, NO_BLOCK, order)  # one came since the visit
    unlock_zone(core, zone, worker)
    return free


@entry
def request_pass(base: int, worker: int, _until_ns: int) -> int:
    """Ask for a pass because a floor has come down; returns the state."""
    core = open_core(base)
    page_reporting_request(core, worker, NO_BLOCK, NO_BLOCK)
    return core.report[R_STATE]


@dataclass
class Wait:
    """A zone that waits: the list it stopped at, and when its policy is asked again."""

    at: ListOf
    context: Any
    """Of the policy, for this zone."""
    due_ns: int
    retry_ns: int = RETRY_FIRST_NS

    def put_off(self, now_ns: int) -> None:
        """The policy still leaves the zone alone."""
        self.retry_ns = min(2 * self.retry_ns, RETRY_LAST_NS)
        self.due_ns = now_ns + self.retry_ns


class Waits:
    """The zones that wait, by number."""

    def __init__(self) -> None:
        self._waits: dict[int, Wait] = {}

    def begin(self, wait: Wait) -> None:
        """A zone waits."""
        self._waits[wait.at.zone] = wait

    def end_all(self) -> None:
        """A pass begins, which comes to every zone."""
        self._waits.clear()

    def due_ns(self) -> int:
        """When a policy is to be asked next; `NEVER_NS` without a zone that waits."""
        return min((wait.due_ns for wait in self._waits.values()), default=NEVER_NS)

    def due(self, now_ns: int) -> Iterator[Wait]:
        """The zones whose policy is to be asked now."""
        return (wait for wait in list(self._waits.values()) if wait.due_ns <= now_ns)
