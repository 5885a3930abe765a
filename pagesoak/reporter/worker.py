"""The reporter: waits for a request, sleeps the delay, makes a pass over all zones, and again.

A worker in the sense of `base.wants`: it yields what it wants and is driven by whoever knows a
clock, a lock and a host. What it does in a pass is told in `reporter.passes`.

A user may change policy and settings while it runs (`Changes`). That happens between two passes.
Another policy is as if the driver were loaded anew: the device is taken away and registered again,
with what the policy asks of it, and a first pass is requested.

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_register`, and when its work is due. Rules
and test IDs: docs/model.md, 7.1.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from pagesoak.allocator.demand import watch_demand
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import IDLE
from pagesoak.base.layout_faults import STOP_FOR_GOOD
from pagesoak.base.timer_wheel import TickClock, timer_fires_ns
from pagesoak.base.wants import AwaitPass, Run, Sleep, Want, Worker
from pagesoak.reporter.delayed_work import DelayedWorkQueue
from pagesoak.reporter.factor import set_reporting_factor
from pagesoak.reporter.guard import Guarded
from pagesoak.reporter.passes import Reporter, ReporterSettings
from pagesoak.reporter.policy import Policy
from pagesoak.reporter.state import look_at_device, register_device, unregister_device
from pagesoak.reporter.waiting import request_pass

NO_FACTOR = -1
"""The knob as in a kernel that has none."""
_AWAIT_PASS = AwaitPass()
_WORK = "page_reporting_process"
"""The one piece of delayed work."""


class Change(NamedTuple):
    """What is to be so from now on; a `policy` of None stays."""

    policy: Guarded | None
    settings: ReporterSettings


Changes = Callable[[], Change | None]
"""Asked between two passes: what has changed since it was asked last; None: nothing."""


def no_changes() -> None:
    """Nobody changes anything."""


def reporter_worker(
    base: int,
    worker: int,
    policy: Policy | Guarded,
    settings: ReporterSettings,
    changes: Changes = no_changes,
) -> Worker:
    """The reporter of a guest; ends at once for a policy that registers no device.

    Otherwise ends when the segment says stop or the device is gone; while a zone is dead it waits.
    `base` is the segment's address, `worker` the reporter's number. Raises HarnessError when a
    device is registered already or the scatterlist is broken, PolicyError when the policy does
    what it may not: then nothing is isolated.
    """
    policy = policy if isinstance(policy, Guarded) else Guarded(policy)
    if not policy.registers_device:
        return
    reporter = yield from _registered(base, worker, policy, settings)
    yield from _serve(base, worker, reporter, changes)


def _registered(
    base: int,
    worker: int,
    policy: Guarded,
    settings: ReporterSettings,
    factor_before: int | None = None,
) -> Generator[Want, Any, Reporter]:
    """Register the device; the reporter that serves it."""
    factor = policy.factor if settings.factor is None else settings.factor
    yield from _set_factor(worker, factor, factor_before)
    arguments = (
        worker,
        settings.order,
        policy.device_capacity or settings.capacity,
        settings.delay_ns,
        settings.eventfd,
    )
    capacity = yield Run("register-device", register_device, arguments)
    if not capacity:
        raise HarnessError("a page reporting device is registered already")
    if policy.watches_demand:
        yield Run("watch-demand", watch_demand, (worker, policy.demand_memory_ns))
    return Reporter(base, worker, policy, settings, capacity)


def _set_factor(worker: int, factor: int | None, before: int | None) -> Generator[Want, Any, None]:
    """Set the knob, which was `before` so far; None: it never was there, or shall not be."""
    if factor is None and before is not None:
        factor = NO_FACTOR
    if factor is not None and factor != before:
        yield Run("set-factor", set_reporting_factor, (worker, factor))


def _changed(
    base: int, worker: int, change: Change, before: Reporter
) -> Generator[Want, Any, Reporter]:
    """The reporter after a change."""
    if change.policy is not None:
        unregister_device(base)
        return (
            yield from _registered(base, worker, change.policy, change.settings, before.factor)
        )
    factor = before.factor
    before.settings = change.settings
    yield from _set_factor(worker, before.factor, factor)
    return before


def _serve(base: int, worker: int, reporter: "Reporter", changes: Changes) -> Worker:
    """Pass after pass, each when it is due."""
    works: DelayedWorkQueue[str] = DelayedWorkQueue()
    clock = TickClock(reporter.settings.hz)
    while True:
        change = changes()
        if change is not None:
            reporter = yield from _changed(base, worker, change, reporter)
            works = DelayedWorkQueue()  # what was due by the settings before
        stopping, registered, state, requested_at_ns, delay_ns = look_at_device(base)
        if stopping == STOP_FOR_GOOD or not registered:
            return
        if state != IDLE:
            works.schedule(_WORK, timer_fires_ns(clock, requested_at_ns, delay_ns))
        due_ns = works.next_due_ns()
        if due_ns is None:
            if not reporter.waits:
                yield _AWAIT_PASS
                continue
            now_ns = yield AwaitPass(reporter.waits.due_ns())
            if reporter.admits_more(now_ns):
                yield Run("request-pass", request_pass, (worker,))
                works.schedule(_WORK, now_ns)
            continue
        now_ns = yield Sleep(due_ns)
        for _ in works.pop_due(now_ns):
            yield from reporter.one_pass()
