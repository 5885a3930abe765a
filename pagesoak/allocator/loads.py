"""The loads of a guest CPU, each a small program that yields what it wants next.

`bursts` is the load of the recordings' OOM tables: a hog that cannot be killed leaves some memory
free; over it a process thinks (exponentially distributed), takes and touches a burst, holds it and
gives it back; when the OOM killer takes it, what it had comes back at once and it is started
again. `replay` makes the requests of a recorded trace by its own clock, a factor of it, or as fast
as it goes. `steady` is a random mix around a target. `files` reads and writes through the page
cache. An idle guest has no program.

A program first brings the guest into its starting state, then yields `Barrier`; the reporting
device is registered when all have done so, as in the recorded runs.
"""

from collections.abc import Generator
from typing import Any, NamedTuple

from pagesoak.allocator import files as files_core
from pagesoak.allocator import guest, pace
from pagesoak.allocator import replay as replay_core
from pagesoak.allocator import steady as steady_core
from pagesoak.base.errors import InputError
from pagesoak.base.recorder import BURST_BEGIN, BURST_END, BURST_TAKEN
from pagesoak.base.wants import AwaitRecovery, Barrier, Now, Run, Sleep, Want

Program = Generator[Want, Any, None]

NANOSECONDS_PER_SECOND = 1_000_000_000
STEADY_SLICE_NS = 10_000_000
"""A steady load with a rate makes its share of operations every so often."""
OPERATIONS_MAX = 1 << 40
"""More than any burst makes: its time ends it."""
RECORDED_BEFORE_NS = -1
"""Nothing was recorded before that: a replay works out what is due."""
TICK_NS = 4_000_000
"""HZ 250, as Debian's kernels."""


class BurstSettings(NamedTuple):
    """Bursts of load `load` on `cpu`, over the hog `hog`; pages, and ns."""

    cpu: int
    load: int
    hog: int
    leave_free_pages: int
    burst_pages: int
    jitter_percent: int
    think_ns: int
    hold_ns: int


class SteadySettings(NamedTuple):
    """A steady mix of load `load` on `cpu`; `rate_per_second` 0 is as fast as it goes."""

    cpu: int
    load: int
    rate_per_second: int


class FilesSettings(NamedTuple):
    """Files used by load `load` on `cpu`; `rate_per_second` 0 is as fast as it goes."""

    cpu: int
    load: int
    rate_per_second: int


class ReplaySettings(NamedTuple):
    """A replay of load `load` on `cpu`; `speed_ppm` of the recording's own clock, 0 as fast as it
    goes. `alone`: the CPU has no other load.
    """

    cpu: int
    load: int
    speed_ppm: int
    alone: bool = False


def until_done(name: str, function: Any, *arguments: int) -> Generator[Want, Any, int]:
    """Run a burst again until it is done or cannot go on; returns how it ended. One that was
    stopped did not happen to its end, and goes on when the guest does.
    """
    while True:
        reason = yield Run(name, function, arguments)
        if reason == guest.WAITS:
            yield from _wait_a_tick()
        elif reason == guest.STOPPED:
            yield AwaitRecovery()
        elif reason != guest.AGAIN:
            return int(reason)


def _wait_a_tick() -> Generator[Want, Any, None]:
    """What a request waits for comes from another process: give it the time."""
    now_ns = yield Now()
    yield Sleep(now_ns + TICK_NS)


def hog(cpu: int, load: int, leave_free_pages: int) -> Generator[Want, Any, None]:
    """Take pages until so many are left free. In a soak, after the death of the one before, it
    makes do with what there is.
    """
    pages = yield Run("hog size", guest.free_pages_beyond, (leave_free_pages,))
    reason = yield from until_done("hog", guest.take, cpu, load, pages)
    if reason == guest.OUT_OF_MEMORY and not (yield Run("started", guest.has_started, ())):
        left = yield Run("left", guest.free_pages_beyond, (0,))
        msg = (
            f"leave_free = {leave_free_pages} pages cannot be reached: with {left} pages "
            "free the kernel gives a user no more (watermarks, lowmem reserve)"
        )
        raise InputError(msg, key="load.leave_free")


def bursts(settings: BurstSettings) -> Program:
    """The load of the OOM tables; ends when the run does."""
    cpu, load = settings.cpu, settings.load
    yield from hog(cpu, settings.hog, settings.leave_free_pages)
    now_ns = yield Barrier()
    while True:
        pause_ns = yield Run("think", guest.think_time, (load, settings.think_ns))
        yield Sleep(now_ns + pause_ns)
        pages = settings.burst_pages
        if settings.jitter_percent:
            pages = yield Run("vary", guest.vary, (load, pages, settings.jitter_percent))
        yield Run("burst begin", guest.note_burst, (cpu, load, BURST_BEGIN, pages))
        reason = yield from until_done("burst", guest.take, cpu, load, pages)
        killed = int(reason == guest.OUT_OF_MEMORY)
        if not killed:
            yield Run("burst taken", guest.note_burst, (cpu, load, BURST_TAKEN, pages))
            now_ns = yield Now()
            yield Sleep(now_ns + settings.hold_ns)
        reason = yield from until_done("give back", guest.give_back, cpu, load)
        killed |= int(reason == guest.OUT_OF_MEMORY)
        yield Run("burst end", guest.note_burst, (cpu, load, BURST_END, killed))
        now_ns = yield Now()


def _set_pace(load: int, began_ns: int, rate_per_second: int) -> Generator[Want, Any, int]:
    """Give a load its pace; the length of a slice, 0 without one."""
    if not rate_per_second:
        return 0
    operations = max(rate_per_second * STEADY_SLICE_NS // NANOSECONDS_PER_SECOND, 1)
    slice_ns = operations * NANOSECONDS_PER_SECOND // rate_per_second
    yield Run("pace", pace.set_pace, (load, began_ns, slice_ns, operations))
    return slice_ns


def steady(settings: SteadySettings) -> Program:
    """A random mix; ends when the run does. The OOM killer makes it start from nothing."""
    cpu, load = settings.cpu, settings.load
    due_ns = yield Barrier()
    slice_ns = yield from _set_pace(load, due_ns, settings.rate_per_second)
    while True:
        reason = yield Run("steady", steady_core.steady, (cpu, load, OPERATIONS_MAX))
        if reason == guest.OUT_OF_MEMORY:
            reason = yield from until_done("killed", guest.give_back, cpu, load)
        if reason == guest.STOPPED:
            yield AwaitRecovery()
        if reason == guest.WAITS:
            yield from _wait_a_tick()
        if slice_ns and reason == guest.DONE:
            yield Sleep((yield Run("next slice", pace.next_slice_ns, (load,))))


def files(settings: FilesSettings) -> Program:
    """Files read and written through the page cache; ends when the run does."""
    cpu, load = settings.cpu, settings.load
    reason = yield from until_done("fill files", files_core.fill_files, cpu, load)
    if reason == guest.OUT_OF_MEMORY and not (yield Run("started", guest.has_started, ())):
        msg = "mlocked and tmpfs do not fit: the kernel gives a user no more memory"
        raise InputError(msg, key="load.mlocked")
    due_ns = yield Barrier()
    slice_ns = yield from _set_pace(load, due_ns, settings.rate_per_second)
    while True:
        reason = yield Run("files", files_core.files, (cpu, load, OPERATIONS_MAX))
        if reason == guest.STOPPED:
            yield AwaitRecovery()
        if reason == guest.WAITS:
            yield from _wait_a_tick()
        if slice_ns and reason == guest.DONE:
            yield Sleep((yield Run("next slice", pace.next_slice_ns, (load,))))


def replay(settings: ReplaySettings) -> Program:
    """A recorded trace; ends with its last request."""
    cpu, load = settings.cpu, settings.load
    began_ns = yield Barrier()
    yield Run("speed", pace.set_speed, (load, began_ns, settings.speed_ppm))
    burst = Run("replay", replay_core.replay, (cpu, load, RECORDED_BEFORE_NS, int(settings.alone)))
    while True:
        reason, next_ns = yield burst
        if next_ns == replay_core.NONE_LEFT:
            return
        if reason == guest.STOPPED:
            yield AwaitRecovery()
        if reason == guest.WAITS:
            yield from _wait_a_tick()
        if reason == guest.DONE:
            yield Sleep(next_ns)


def idle() -> Program:
    """Nothing: the guest only lives."""
    yield Barrier()
