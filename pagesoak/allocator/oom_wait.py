"""Waiting for an open report window instead of killing: the obvious repair on the kernel's side.

A request that has come to the OOM killer while pages of a zone it may use are isolated comes back
as WAITING, and is made again a tick later, until they are back; then it goes its usual way. A load
that waits is not sent through the rounds of the slow path again meanwhile. The wait ends with the
window, not with the request's next attempt: that is what it cost.

No kernel does this (`guest.oom_waits_for_report` of a scenario). A report that never comes back is
waited for without end, as `virtballoon_free_page_report` itself does.
"""

from pagesoak.allocator.oom import NO_PROCESS, process_of
from pagesoak.allocator.page_alloc import total_pages
from pagesoak.allocator.zonelist import zone_allowed
from pagesoak.base import recorder
from pagesoak.base.clock import now_ns
from pagesoak.base.layout import (
    H_LOADS,
    H_ZONES,
    LOAD_WORDS,
    Z_FREE_PAGES,
    Z_ISOLATED,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_demand import H_OOM_WAITS, L_OOM_WAIT_SINCE_NS
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import Words, inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import OOM_WAIT_NS, OOM_WAITS, count


@inner
def waits_already(core: Core, owner: int) -> bool:
    """Whether the load that asks waits for a window that is still open."""
    if core.header[H_OOM_WAITS] == 0:
        return False
    load = process_of(core, owner)
    return load != NO_PROCESS and core.loads[load * LOAD_WORDS + L_OOM_WAIT_SINCE_NS] != 0


@inner
def _begin(core: Core, cpu: int, order: int, gfp: int, owner: int) -> None:
    """Put a wait on record; under the zone lock, so that the window is open."""
    load = process_of(core, owner)
    if load != NO_PROCESS:
        core.loads[load * LOAD_WORDS + L_OOM_WAIT_SINCE_NS] = now_ns(core, cpu)
    free = total_pages(core, Z_FREE_PAGES)
    record(core, cpu, recorder.OOM_WAIT, order, gfp, free, total_pages(core, Z_ISOLATED), 0)
    count(core, cpu, OOM_WAITS, 1)


@inner
def waits_for_report(core: Core, cpu: int, order: int, gfp: int, owner: int) -> bool:
    """Whether a request that would kill is to wait instead."""
    if core.header[H_OOM_WAITS] == 0:
        return False
    for zone in range(core.header[H_ZONES]):
        z = zone * ZONE_WORDS
        if core.zones[z + Z_ISOLATED] == 0 or not zone_allowed(core, cpu, zone, gfp):
            continue
        if lock_zone(core, zone, cpu) != HELD:
            return False
        isolated = core.zones[z + Z_ISOLATED] != 0
        if isolated:
            _begin(core, cpu, order, gfp, owner)
        unlock_zone(core, zone, cpu)
        if isolated:
            return True
    return False


@inner
def end_oom_waits(core: Core, worker: int) -> None:
    """The window has closed: nobody waits for it any more. Under the zone lock."""
    if core.header[H_OOM_WAITS] == 0:
        return
    now = now_ns(core, worker)
    for load in range(core.header[H_LOADS]):
        at = load * LOAD_WORDS + L_OOM_WAIT_SINCE_NS
        if core.loads[at] != 0:
            count(core, worker, OOM_WAIT_NS, max(0, now - core.loads[at]))
            core.loads[at] = 0


def set_oom_waits(header: Words, *, on: bool) -> None:
    """Let requests wait, or not; `header` of a segment."""
    header[H_OOM_WAITS] = int(on)
