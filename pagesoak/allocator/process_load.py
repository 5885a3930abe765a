"""Bursts as a process makes them: page tables, huge pages, unmapping, a new process after a kill.

The load of the recorded OOM tables to the letter (`loads.bursts` is the same without what
`process_memory` adds): a hog leaves some memory free; then, until its time is over, a process
thinks, touches a burst, holds it, unmaps it. Killed, it is started again, and its regions lie
elsewhere. The last burst is made to its end, like the recorder's.

Pauses and sizes are the load's requests. They are drawn, or given one by one where it is known
what a recorded load asked for; once these are used up, they are drawn.
"""

from collections.abc import Callable, Generator
from itertools import count
from typing import Any, NamedTuple

from pagesoak.allocator import guest
from pagesoak.allocator.loads import Program, hog, until_done
from pagesoak.allocator.process_memory import place_region, touch_region, unmap_region
from pagesoak.base.layout import PAGEBLOCK_PAGES
from pagesoak.base.recorder import BURST_BEGIN, BURST_END, BURST_TAKEN
from pagesoak.base.wants import Barrier, Now, Run, Sleep, Want

UNALIGNED = 0
"""Regions begin anywhere."""
ALIGNED = 1
"""Regions of whole 2 MiB begin at a 2 MiB boundary, as since 6.7."""


class ProcessSettings(NamedTuple):
    """Bursts of load `load` on `cpu`, over the hog `hog`, for `run_ns`; pages, and ns.

    `pauses_ns` before each burst, and `sizes_pages` of each, are taken one by one, then drawn:
    pauses around `think_ns`, sizes from `sizes_drawn_pages`.
    """

    cpu: int
    load: int
    hog: int
    leave_free_pages: int
    sizes_drawn_pages: tuple[int, ...]
    think_ns: int
    hold_ns: int
    run_ns: int
    alignment: int = UNALIGNED
    pauses_ns: tuple[int, ...] = ()
    sizes_pages: tuple[int, ...] = ()


class Burst(NamedTuple):
    """What became of one burst: ns of the driver's clock, free pages at its begin and end."""

    began_ns: int
    touched_ns: int
    """When all was touched, or the process was killed."""
    pages: int
    free_pages: int
    free_pages_touched: int
    killed: bool


def process_bursts(settings: ProcessSettings, note: Callable[[Burst], None]) -> Program:
    """The load; it tells of each burst when it is over, and ends when its time is."""
    cpu, load = settings.cpu, settings.load
    yield from hog(cpu, settings.hog, settings.leave_free_pages)
    yield Run("place", place_region, (load, 0))
    now_ns = yield Barrier()
    began_ns = now_ns
    for number in count():
        if now_ns - began_ns >= settings.run_ns:
            return
        pause_ns, pages = yield from _request(settings, number)
        yield Sleep(now_ns + pause_ns)
        burst = yield from _burst(settings, pages)
        note(burst)
        if burst.killed:
            yield Run("place", place_region, (load, 0))
        now_ns = yield Now()


def _request(settings: ProcessSettings, number: int) -> Generator[Want, Any, tuple[int, int]]:
    """Pause and size of burst number `number`."""
    if number < len(settings.pauses_ns):
        pause_ns = settings.pauses_ns[number]
    else:
        pause_ns = yield Run("think", guest.think_time, (settings.load, settings.think_ns))
    if number < len(settings.sizes_pages):
        return pause_ns, settings.sizes_pages[number]
    choices = settings.sizes_drawn_pages
    choice = 0
    if len(choices) > 1:
        choice = yield Run("choose", guest.choose, (settings.load, len(choices)))
    return pause_ns, choices[choice]


def _burst(settings: ProcessSettings, pages: int) -> Generator[Want, Any, Burst]:
    """Touch, hold and unmap a region."""
    cpu, load = settings.cpu, settings.load
    if settings.alignment == ALIGNED and pages % PAGEBLOCK_PAGES == 0:
        yield Run("place", place_region, (load, ALIGNED))
    began_ns = yield Now()
    free = yield Run("burst begin", guest.note_burst, (cpu, load, BURST_BEGIN, pages))
    reason = yield from until_done("touch", touch_region, cpu, load, pages)
    killed = reason == guest.OUT_OF_MEMORY
    touched_ns = yield Now()
    if not killed:
        left = yield Run("burst taken", guest.note_burst, (cpu, load, BURST_TAKEN, pages))
        yield Sleep(touched_ns + settings.hold_ns)
    else:
        left = yield Run("left", guest.free_pages_beyond, (0,))
    reason = yield from until_done("unmap", unmap_region, cpu, load)
    killed = killed or reason == guest.OUT_OF_MEMORY
    yield Run("burst end", guest.note_burst, (cpu, load, BURST_END, int(killed)))
    return Burst(began_ns, touched_ns, pages, free, left, killed)
