"""The reporter: waits for a request, sleeps the delay, makes a pass over all zones, and again.

A worker in the sense of `base.wants`: it yields what it wants and is driven by whoever knows a
clock, a lock and a host. A pass visits zones in ascending order, in each the orders from
page_reporting_order up, in each the migratetypes but ISOLATE. Blocks of several lists share a
scatterlist; what is left of it at the end of a zone is reported as it is. A report that fails ends
the zone and the pass, without that.

A policy that does what it may not ends the pass, too: what is pending is reported and put back,
then its error is passed on.

Between holds it names the points at which others may come in between (`POINTS`).

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_process`, `page_reporting_process_zone`.
Rules and test IDs: docs/model.md, 7.1 and 7.2.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import IDLE, ISOLATE, MAX_ORDER, REPORTING_CAPACITY
from pagesoak.base.timer_wheel import HZ, TickClock, timer_fires_ns
from pagesoak.base.wants import AwaitPass, Report, Run, Sleep, Want, Worker, YieldPoint
from pagesoak.reporter import cycle
from pagesoak.reporter.cycle import drain_report, reporting_hold, submit_report
from pagesoak.reporter.delayed_work import DelayedWorkQueue
from pagesoak.reporter.factor import set_reporting_factor
from pagesoak.reporter.gate import look_at_hold, look_at_zone, reporting_gate
from pagesoak.reporter.guard import NO_PLAN, Guarded, PolicyError
from pagesoak.reporter.lists import next_list
from pagesoak.reporter.policy import HoldView, OrderPlan, Policy, ZoneView
from pagesoak.reporter.scatterlist import init_last_entries, pending_blocks
from pagesoak.reporter.state import begin_pass, end_pass, look_at_device, register_device

DELAY_NS = 2_000_000_000
"""PAGE_REPORTING_DELAY: 2 s."""
REPORTING_ORDER = 9
"""PAGE_REPORTING_MIN_ORDER: the order of a page block."""

AFTER_GATE = "after-gate"
AFTER_ISOLATE = "after-isolate"
"""Blocks are isolated, the lock is free, the host does not know yet."""
BEFORE_DRAIN = "before-drain"
"""The host has answered, the blocks are not back."""
BEFORE_END = "before-end"
POINTS = (AFTER_GATE, AFTER_ISOLATE, BEFORE_DRAIN, BEFORE_END)

_WORK = "page_reporting_process"
"""The one piece of delayed work."""
_NO_ANSWER = 0
"""Answer handed to a hold that follows no report."""

Steps = Generator[Want, Any, int]
"""Part of the worker; ends with one of the codes of `cycle`."""


@dataclass(frozen=True, slots=True)
class ReporterSettings:
    """What the device is registered with, and what is done to it."""

    zones: int
    order: int = REPORTING_ORDER
    capacity: int = REPORTING_CAPACITY
    delay_ns: int = DELAY_NS
    list_allocation_fails_every: int = 0
    """Every n-th allocation of the scatterlist fails, 0 none."""
    eventfd: int = -1
    """Wakes the reporter; -1 without."""
    hz: int = HZ
    """Ticks per second of the guest, whose tick 0 was at 0 of the driver's clock."""
    factor: int | None = None
    """reporting_factor in percent; None: what the policy comes with, if anything."""


class Device(NamedTuple):
    """The device as it is now, read without a lock."""

    stopping: int
    registered: int
    state: int
    requested_at_ns: int
    delay_ns: int
    order: int
    capacity: int


def reporter_worker(
    base: int, worker: int, policy: Policy | Guarded, settings: ReporterSettings
) -> Worker:
    """The reporter of a guest; ends at once for a policy that registers no device.

    Otherwise ends when the segment says stop, the device is gone or a zone is dead. `base` is the
    segment's address, `worker` the reporter's number. Raises HarnessError when a device is
    registered already or the scatterlist is broken, PolicyError when the policy does what it may
    not: then nothing is isolated.
    """
    policy = policy if isinstance(policy, Guarded) else Guarded(policy)
    if not policy.registers_device:
        return
    factor = policy.factor if settings.factor is None else settings.factor
    if factor is not None:
        yield Run("set-factor", set_reporting_factor, (worker, factor))
    arguments = (
        worker,
        settings.order,
        policy.device_capacity or settings.capacity,
        settings.delay_ns,
        settings.eventfd,
    )
    if not (yield Run("register-device", register_device, arguments)):
        raise HarnessError("a page reporting device is registered already")
    works: DelayedWorkQueue[str] = DelayedWorkQueue()
    clock = TickClock(settings.hz)
    while True:
        device = Device(*look_at_device(base))
        if device.stopping or not device.registered:
            return
        if device.state != IDLE:
            due_at_ns = timer_fires_ns(clock, device.requested_at_ns, device.delay_ns)
            works.schedule(_WORK, due_at_ns)
        due_ns = works.next_due_ns()
        if due_ns is None:
            yield AwaitPass()
            continue
        now_ns = yield Sleep(due_ns)
        for _ in works.pop_due(now_ns):
            if (yield from _pass(base, worker, policy, settings)) == cycle.LOCK_FAILED:
                return


def _pass(base: int, worker: int, policy: Guarded, settings: ReporterSettings) -> Steps:
    """The delayed work: one pass, from ACTIVE to the state it leaves."""
    device = Device(*look_at_device(base))
    code = cycle.LIST_DONE
    fault = None
    arguments = (worker, settings.list_allocation_fails_every)
    if (yield Run("begin-pass", begin_pass, arguments)):
        for zone in range(settings.zones):
            try:
                code = yield from _zone(base, worker, zone, policy, device)
            except PolicyError as error:
                fault = error
                code = yield from _give_back(base, worker, zone)
            if code == cycle.LOCK_FAILED:
                return code
            if code != cycle.LIST_DONE or fault is not None:
                break
    yield YieldPoint(BEFORE_END)
    yield Run("end-pass", end_pass, (worker,))
    if fault is not None:
        raise fault
    return code


def _zone(base: int, worker: int, zone: int, policy: Guarded, device: Device) -> Steps:
    """One zone: gate, lists, leftover. LIST_DONE, or the code that ends the pass."""
    if not (yield Run("reporting-gate", reporting_gate, (worker, zone, device.capacity))):
        return cycle.LIST_DONE
    context = policy.at_zone(_zone_view(base, zone, device))
    if context is None:
        return cycle.LIST_DONE
    yield YieldPoint(AFTER_GATE)
    for order in range(device.order, MAX_ORDER):
        plan = yield from _begin_order(base, worker, zone, order, policy, context, device)
        of_order = context if plan.context is None else plan.context
        migratetype, *seen = next_list(base, zone, order, 0)
        offset = REPORTING_CAPACITY - seen[-1]
        while migratetype < ISOLATE:
            visit = _Visit(base, worker, zone, order, migratetype, device.capacity)
            code, offset = yield from visit.steps(policy, of_order, seen)
            if code in _ENDS_PASS:
                return code
            if code == cycle.FACTOR_REACHED:
                return (yield from _report_apart(worker, zone, offset))
            migratetype, *seen = next_list(base, zone, order, migratetype + 1)
        last = order == MAX_ORDER - 1
        if offset < REPORTING_CAPACITY and (last or plan.flush_after):
            code = yield from _report_apart(worker, zone, offset)
            if code != cycle.LIST_DONE:
                return code
    return cycle.LIST_DONE


_ENDS_PASS = frozenset({cycle.DEVICE_ERROR, cycle.LOCK_FAILED})


def _zone_view(base: int, zone: int, device: Device) -> ZoneView:
    return ZoneView(zone, device.order, device.capacity, *look_at_zone(base, zone))


def _begin_order(
    base: int, worker: int, zone: int, order: int, policy: Guarded, context: Any, device: Device
) -> Generator[Want, Any, OrderPlan]:
    """What the policy plans for the scatterlist around this order, and its first half done."""
    if not policy.plans_orders:
        return NO_PLAN
    plan = policy.at_order(order, _zone_view(base, zone, device), context)
    if plan.initialise:
        arguments = (worker, plan.initialise)
        if not (yield Run("init-last-entries", init_last_entries, arguments)):
            raise policy.would_lose(plan, *pending_blocks(base))
    return plan


def _give_back(base: int, worker: int, zone: int) -> Steps:
    """After a policy's error, which comes between holds: what is isolated goes its usual way."""
    _, entries = pending_blocks(base)
    if not entries:
        return cycle.LIST_DONE
    return (yield from _report_apart(worker, zone, REPORTING_CAPACITY - entries))


class _Visit(NamedTuple):
    """The visit to one list: its holds, and the reports between them."""

    base: int
    worker: int
    zone: int
    order: int
    migratetype: int
    capacity: int

    def steps(
        self, policy: Guarded, context: Any, seen: Sequence[int]
    ) -> Generator[Want, Any, tuple[int, int]]:
        """Hold after hold until the visit ends; why, and the lowest used entry. `seen`: what
        `look_at_hold` would say before the first.
        """
        error = _NO_ANSWER
        reported = False
        while True:
            try:
                hold = self._hold(policy, context, error, seen)
            except PolicyError:
                if reported:
                    yield from _drain_apart(self.worker, self.zone, error)
                raise
            code, offset = yield hold
            reported = code == cycle.REPORT_NOW
            if reported:
                error = yield from _report(self.worker, offset)
            elif code == cycle.FLUSH:
                code = yield from _report_apart(self.worker, self.zone, offset)
                if code != cycle.LIST_DONE:
                    return code, REPORTING_CAPACITY
            else:
                return _checked(code), offset
            seen = look_at_hold(self.base, self.zone, self.order)

    def _hold(self, policy: Guarded, context: Any, error: int, seen: Sequence[int]) -> Run:
        view = HoldView(self.zone, self.migratetype, self.capacity, *seen)
        hold = policy.at_hold(self.order, view, context)
        arguments = (
            self.worker,
            self.zone,
            self.order,
            self.migratetype,
            hold.capacity,
            hold.take,
            hold.budget,
            hold.budget_capacity or hold.capacity,
            hold.budget_shift,
            int(hold.flush_before),
            error,
        )
        return Run("reporting-hold", reporting_hold, arguments)


def _report(worker: int, offset: int) -> Generator[Want, Any, int]:
    """Have the entries from `offset` on reported; the host's answer."""
    entries = REPORTING_CAPACITY - offset
    yield YieldPoint(AFTER_ISOLATE)
    request = yield Run("submit-report", submit_report, (worker, offset, entries))
    error: int = yield Report(request, offset, entries)
    yield YieldPoint(BEFORE_DRAIN)
    return error


def _report_apart(worker: int, zone: int, offset: int) -> Steps:
    """A report that is part of no visit, and its drain."""
    error = yield from _report(worker, offset)
    return (yield from _drain_apart(worker, zone, error))


def _drain_apart(worker: int, zone: int, error: int) -> Steps:
    """The drain of a report in a hold of its own."""
    return _checked((yield Run("drain-report", drain_report, (worker, zone, error))))


def _checked(code: int) -> int:
    if code == cycle.LIST_BROKEN:
        raise HarnessError("the scatterlist names a block that is not isolated")
    return code
