"""The reporter: waits for a request, sleeps the delay, makes a pass over all zones, and again.

A worker in the sense of `base.wants`: it yields what it wants and is driven by whoever knows a
clock, a lock and a host. A pass visits zones in ascending order, in each the orders from
page_reporting_order up, in each the migratetypes but ISOLATE. Blocks of several lists share a
scatterlist; what is left of it at the end of a zone is reported as it is. A report that fails ends
the zone and the pass, without that.

A policy that does what it may not ends the pass, too: what is pending is reported and put back,
then its error is passed on.

A policy that leaves a zone alone ends the zone's visits; the zone then waits (`reporter.waiting`).

Between holds it names the points at which others may come in between (`POINTS`).

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_process`, `page_reporting_process_zone`.
Rules and test IDs: docs/model.md, 7.1 and 7.2.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pagesoak.allocator.demand import watch_demand
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import IDLE, ISOLATE, MAX_ORDER, REPORTING_CAPACITY
from pagesoak.base.timer_wheel import HZ, TickClock, timer_fires_ns
from pagesoak.base.wants import AwaitPass, Now, Report, Run, Sleep, Want, Worker, YieldPoint
from pagesoak.reporter import cycle
from pagesoak.reporter.cycle import drain_report, reporting_hold, submit_report
from pagesoak.reporter.delayed_work import DelayedWorkQueue
from pagesoak.reporter.factor import set_reporting_factor
from pagesoak.reporter.gate import reporting_gate
from pagesoak.reporter.guard import NO_PLAN, Guarded, PolicyError
from pagesoak.reporter.policy import Hold, OrderPlan, Policy
from pagesoak.reporter.scatterlist import init_last_entries, pending_blocks
from pagesoak.reporter.state import begin_pass, end_pass, look_at_device, register_device
from pagesoak.reporter.views import ListOf, Seen, hold_view, next_list_of, zone_view
from pagesoak.reporter.waiting import RETRY_FIRST_NS, Wait, Waits, request_pass, wait_for_free

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
    if policy.watches_demand:
        yield Run("watch-demand", watch_demand, (worker, policy.demand_memory_ns))
    yield from _serve(base, worker, policy, settings)


def _serve(base: int, worker: int, policy: Guarded, settings: ReporterSettings) -> Worker:
    """Pass after pass, each when it is due."""
    works: DelayedWorkQueue[str] = DelayedWorkQueue()
    clock = TickClock(settings.hz)
    waits = Waits()
    while True:
        device = Device(*look_at_device(base))
        if device.stopping or not device.registered:
            return
        if device.state != IDLE:
            due_at_ns = timer_fires_ns(clock, device.requested_at_ns, device.delay_ns)
            works.schedule(_WORK, due_at_ns)
        due_ns = works.next_due_ns()
        if due_ns is None:
            now_ns = yield AwaitPass(waits.due_ns())
            admitted = [_admits(base, worker, policy, wait, now_ns) for wait in waits.due(now_ns)]
            if any(admitted):
                yield Run("request-pass", request_pass, (worker,))
                works.schedule(_WORK, now_ns)
            continue
        now_ns = yield Sleep(due_ns)
        for _ in works.pop_due(now_ns):
            if (yield from _pass(base, worker, policy, settings, waits)) == cycle.LOCK_FAILED:
                return


def _admits(base: int, worker: int, policy: Guarded, wait: Wait, now_ns: int) -> bool:
    """Whether the policy would isolate a block of a zone that waits; else that goes on."""
    view = hold_view(base, worker, wait.at, None, whole=policy.watches_demand)
    order = wait.at.order
    hold = policy.at_hold(order, view, wait.context)
    if hold.take and view.free_pages - (1 << order) >= hold.leave_free_pages:
        return True
    wait.put_off(now_ns)
    return False


def _pass(
    base: int, worker: int, policy: Guarded, settings: ReporterSettings, waits: Waits
) -> Steps:
    """The delayed work: one pass, from ACTIVE to the state it leaves."""
    device = Device(*look_at_device(base))
    code = cycle.LIST_DONE
    fault = None
    arguments = (worker, settings.list_allocation_fails_every)
    if (yield Run("begin-pass", begin_pass, arguments)):
        for zone in range(settings.zones):
            try:
                code = yield from _zone(base, worker, zone, policy, device, waits)
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


def _zone(
    base: int, worker: int, zone: int, policy: Guarded, device: Device, waits: Waits
) -> Steps:
    """One zone: gate, lists, leftover. LIST_DONE, or the code that ends the pass."""
    waits.end(zone)
    if not (yield Run("reporting-gate", reporting_gate, (worker, zone, device.capacity))):
        return cycle.LIST_DONE
    context = policy.at_zone(zone_view(base, zone, device.order, device.capacity))
    if context is None:
        return cycle.LIST_DONE
    yield YieldPoint(AFTER_GATE)
    for order in range(device.order, MAX_ORDER):
        plan = yield from _begin_order(base, worker, zone, order, policy, context, device)
        of_order = context if plan.context is None else plan.context
        lists = _Lists(base, worker, zone, order, device.capacity)
        code, offset = yield from lists.visits(policy, of_order, waits)
        if code in _ENDS_PASS:
            return code
        last = code in _ENDS_ZONE or order == MAX_ORDER - 1
        if offset < REPORTING_CAPACITY and (last or plan.flush_after):
            code = yield from _report_apart(worker, zone, offset)
            if code != cycle.LIST_DONE:
                return code
        if last:
            break
    return cycle.LIST_DONE


_ENDS_PASS = frozenset({cycle.DEVICE_ERROR, cycle.LOCK_FAILED})
_ENDS_ZONE = frozenset({cycle.FACTOR_REACHED, cycle.FLOOR})
"""What is pending is reported all the same."""


class _Lists(NamedTuple):
    """The lists of one order in one zone."""

    base: int
    worker: int
    zone: int
    order: int
    capacity: int

    def visits(
        self, policy: Guarded, context: Any, waits: Waits
    ) -> Generator[Want, Any, tuple[int, int]]:
        """Visit them until one ends zone or pass; how it ended, and the lowest used entry."""
        code = cycle.LIST_DONE
        migratetype, seen = next_list_of(self.base, self.zone, self.order, 0)
        offset = REPORTING_CAPACITY - seen[-1]
        while migratetype < ISOLATE:
            at = ListOf(self.zone, self.order, migratetype, self.capacity)
            visit = _Visit(self.base, self.worker, at)
            code, offset, floor_pages = yield from visit.steps(policy, context, seen)
            if code == cycle.FLOOR:
                waits.begin((yield from _begin_wait(self.worker, at, context, floor_pages)))
            if code in _ENDS_PASS or code in _ENDS_ZONE:
                return code, offset
            migratetype, seen = next_list_of(self.base, self.zone, self.order, migratetype + 1)
        return cycle.LIST_DONE, offset


def _begin_wait(
    worker: int, at: ListOf, context: Any, floor_pages: int
) -> Generator[Want, Any, Wait]:
    """The zone waits at a list, until more than the floor is free in it."""
    now_ns = yield Now()
    arguments = (worker, at.zone, at.order, floor_pages, RETRY_FIRST_NS)
    yield Run("wait-for-free", wait_for_free, arguments)
    return Wait(at, context, now_ns + RETRY_FIRST_NS)


def _begin_order(
    base: int, worker: int, zone: int, order: int, policy: Guarded, context: Any, device: Device
) -> Generator[Want, Any, OrderPlan]:
    """What the policy plans for the scatterlist around this order, and its first half done."""
    if not policy.plans_orders:
        return NO_PLAN
    plan = policy.at_order(order, zone_view(base, zone, device.order, device.capacity), context)
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
    at: ListOf

    def steps(
        self, policy: Guarded, context: Any, seen: Seen | None
    ) -> Generator[Want, Any, tuple[int, int, int]]:
        """Hold after hold until the visit ends; why, the lowest used entry, and the pages that the
        policy leaves free. `seen`: what `look_at_hold` would say before the first.
        """
        error = _NO_ANSWER
        reported = False
        while True:
            try:
                view = hold_view(
                    self.base, self.worker, self.at, seen, whole=policy.watches_demand
                )
                hold = policy.at_hold(self.at.order, view, context)
            except PolicyError:
                if reported:
                    yield from _drain_apart(self.worker, self.at.zone, error)
                raise
            code, offset = yield self._run(hold, error)
            reported = code == cycle.REPORT_NOW
            if reported:
                error = yield from _report(self.worker, offset)
            elif code == cycle.FLUSH:
                code = yield from _report_apart(self.worker, self.at.zone, offset)
                if code != cycle.LIST_DONE:
                    return code, REPORTING_CAPACITY, 0
            else:
                floor_pages = hold.leave_free_pages
                if code == cycle.TAKEN and floor_pages:
                    code = cycle.FLOOR
                return _checked(code), offset, floor_pages
            seen = None

    def _run(self, hold: Hold, error: int) -> Run:
        arguments = (
            self.worker,
            self.at.zone,
            self.at.order,
            self.at.migratetype,
            hold.capacity,
            hold.take,
            hold.budget,
            hold.budget_capacity or hold.capacity,
            hold.budget_shift,
            int(hold.flush_before),
            hold.leave_free_pages,
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
