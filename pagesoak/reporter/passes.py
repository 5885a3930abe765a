"""A pass of the reporter over all zones: gates, lists, holds, reports.

A pass visits zones in ascending order, in each the orders from page_reporting_order up, in each
the migratetypes but ISOLATE. Blocks of several lists share a scatterlist; what is left of it at
the end of a zone is reported as it is. A report that fails ends the zone and the pass, without
that.

A policy that does what it may not ends the pass, too: what is pending is reported and put back,
then its error is passed on. One that leaves a zone alone ends its visits; the zone then waits
(`reporter.waiting`).

Between holds the pass names the points at which others may come in between (`POINTS`).

Models Linux 6.1 `mm/page_reporting.c`: `page_reporting_process`, `page_reporting_process_zone`.
Rules and test IDs: docs/model.md, 7.1 and 7.2.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import ISOLATE, MAX_ORDER, REPORTING_CAPACITY
from pagesoak.base.timer_wheel import HZ
from pagesoak.base.wants import AwaitRecovery, Now, Report, Run, Want, YieldPoint
from pagesoak.reporter import cycle
from pagesoak.reporter.cycle import drain_report, reporting_hold
from pagesoak.reporter.gate import open_zone
from pagesoak.reporter.guard import NO_PLAN, Guarded, PolicyError
from pagesoak.reporter.lists import next_list
from pagesoak.reporter.policy import Hold, HoldView, OrderPlan, ZoneView
from pagesoak.reporter.request import submit_report
from pagesoak.reporter.scatterlist import init_last_entries, pending_blocks
from pagesoak.reporter.state import begin_pass, end_pass
from pagesoak.reporter.views import ListOf, hold_view, zone_view
from pagesoak.reporter.waiting import wait_for_free
from pagesoak.reporter.waits import RETRY_FIRST_NS, Wait, Waits

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
_AFTER_GATE, _AFTER_ISOLATE, _BEFORE_DRAIN, _BEFORE_END = map(YieldPoint, POINTS)

_AWAIT_RECOVERY = AwaitRecovery()
_NO_ANSWER = 0
"""Answer handed to a hold that follows no report."""
_LEAVE_FREE = 10
"""Place of the pages that a hold leaves free among its arguments (`_Reporter._run`)."""
_IN_VISIT = frozenset({cycle.REPORT_NOW, cycle.FLUSH})
"""How a hold ends after which the visit to its list goes on."""
_ENDS_ZONE = frozenset({cycle.FACTOR_REACHED, cycle.FLOOR, cycle.DEVICE_ERROR})
"""How a hold ends after which no other list of the zone is visited."""

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
    names_points: bool = True
    """Whether `POINTS` are yielded; a driver that lets nobody in there saves their time."""


class Reporter:
    """A reporter and its device: what they do in a pass. Wants that never change are made once."""

    def __init__(
        self, base: int, worker: int, policy: Guarded, settings: ReporterSettings, capacity: int
    ) -> None:
        self._base = base
        self._worker = worker
        self._policy = self.policy = policy
        self.settings = settings
        self._zones = settings.zones
        self._order = settings.order
        self._capacity = capacity
        begin_arguments = (worker, settings.zones, settings.list_allocation_fails_every)
        self._begin = Run("begin-pass", begin_pass, begin_arguments)
        self._submit = Run("submit-report", submit_report, (worker,))
        self._end = Run("end-pass", end_pass, (worker,))
        self._fixed_hold = None if policy.fixed_hold is None else policy.fixed_hold(capacity)
        self._fixed_runs: dict[tuple[int, int, int, int], Run] = {}
        self._names_points = settings.names_points
        self.waits = Waits()

    @property
    def factor(self) -> int | None:
        """What the knob was set to; None: never."""
        return self.policy.factor if self.settings.factor is None else self.settings.factor

    def admits_more(self, now_ns: int) -> bool:
        """Whether the policy would isolate a block of a zone that waits; of the others that are
        due, the next look is put off.
        """
        admitted = False
        for wait in self.waits.due(now_ns):
            view = self._hold_view(wait.at)
            hold = self._policy.at_hold(wait.at.order, view, wait.context)
            left = view.free_pages - (1 << wait.at.order)
            if hold.take and left >= hold.leave_free_pages:
                admitted = True
            else:
                wait.put_off(now_ns)
        return admitted

    def one_pass(self) -> Generator[Want, Any, None]:
        """The delayed work: one pass, from ACTIVE to the state it leaves."""
        code = cycle.LIST_DONE
        fault = None
        self.waits.end_all()
        zone = yield self._begin
        while zone < self._zones:
            try:
                code = yield from self._zone(zone)
            except PolicyError as error:
                fault = error
                code = yield from self._give_back(zone)
            zone += 1
            if code != cycle.LIST_DONE or fault is not None or zone == self._zones:
                break
            zone = yield Run("open-zone", open_zone, (self._worker, zone, self._zones))
        if self._names_points:
            yield _BEFORE_END
        yield self._end
        if fault is not None:
            raise fault

    def _zone(self, zone: int) -> Steps:
        """A zone with an open gate: lists, leftover. LIST_DONE, or the code that ends the pass."""
        context = None
        if self._fixed_hold is None:
            context = self._policy.at_zone(self._zone_view(zone))
            if context is None:
                return cycle.LIST_DONE
        if self._names_points:
            yield _AFTER_GATE
        offset = REPORTING_CAPACITY
        order = self._order
        while order < MAX_ORDER:
            plan = NO_PLAN
            if self._policy.plans_orders:
                plan = yield from self._begin_order(zone, order, context)
            of_order = context if plan.context is None else plan.context
            code, order, offset = yield from self._lists(zone, order, of_order, offset)
            if code == cycle.DEVICE_ERROR:
                return code
            order += 1
            last = code in _ENDS_ZONE or order == MAX_ORDER
            if offset < REPORTING_CAPACITY and (last or plan.flush_after):
                code = yield from self._report_apart(zone)
                if code != cycle.LIST_DONE:
                    return code
                offset = REPORTING_CAPACITY
            if last:
                break
        return cycle.LIST_DONE

    def _zone_view(self, zone: int) -> ZoneView:
        return zone_view(self._base, zone, self._order, self._capacity)

    def _hold_view(self, at: ListOf) -> HoldView:
        return hold_view(self._base, self._worker, at, whole=self._policy.watches_demand)

    def _begin_wait(
        self, at: ListOf, context: Any, floor_pages: int
    ) -> Generator[Want, Any, None]:
        """The zone waits at a list, until more than the floor is free in it."""
        now_ns = yield Now()
        self.waits.begin(Wait(at, context, now_ns + RETRY_FIRST_NS))
        arguments = (self._worker, at.zone, at.order, floor_pages, RETRY_FIRST_NS)
        yield Run("wait-for-free", wait_for_free, arguments)

    def _begin_order(self, zone: int, order: int, context: Any) -> Generator[Want, Any, OrderPlan]:
        """What the policy plans for the scatterlist around this order, and its first half done."""
        policy = self._policy
        plan = policy.at_order(order, self._zone_view(zone), context)
        if plan.initialise:
            arguments = (self._worker, plan.initialise)
            if not (yield Run("init-last-entries", init_last_entries, arguments)):
                raise policy.would_lose(plan, *pending_blocks(self._base))
        return plan

    def _give_back(self, zone: int) -> Steps:
        """After a policy's error, which comes between holds: what is isolated goes its usual
        way.
        """
        _, entries = pending_blocks(self._base)
        if not entries:
            return cycle.LIST_DONE
        return (yield from self._report_apart(zone))

    def _lists(
        self, zone: int, order: int, context: Any, offset: int
    ) -> Generator[Want, Any, tuple[int, int, int]]:
        """The visits to the lists of an order, or of all from it on where a hold is fixed: their
        holds, and the reports between them.

        How the last hold ended (LIST_DONE where there was none), the last order, and the lowest
        used entry, which is `offset` to begin with.
        """
        error = _NO_ANSWER
        after = cycle.LIST_DONE
        migratetype = 0
        run: Run | None
        while True:
            if self._fixed_hold is not None:
                run = self._fixed_run(self._fixed_hold, (zone, order, migratetype, error))
            else:
                at = ListOf(zone, order, migratetype, self._capacity)
                run = yield from self._asked_run(at, context, error, after)
            if run is None:
                return cycle.LIST_DONE, order, offset
            code, order, migratetype, offset = yield run
            if code == cycle.LOCK_FAILED:
                yield _AWAIT_RECOVERY
                continue
            after = code
            if code == cycle.REPORT_NOW:
                error = yield from self._report()
            elif code == cycle.FLUSH:
                code = yield from self._report_apart(zone)
                if code != cycle.LIST_DONE:
                    return code, order, REPORTING_CAPACITY
            elif _checked(code) in _ENDS_ZONE or migratetype >= ISOLATE:
                if code == cycle.FLOOR:
                    at = ListOf(zone, order, migratetype, self._capacity)
                    yield from self._begin_wait(at, context, run.arguments[_LEAVE_FREE])
                return code, order, offset

    def _asked_run(
        self, at: ListOf, context: Any, error: int, after: int
    ) -> Generator[Want, Any, Run | None]:
        """The next hold from a list on, as the policy wants it; None when no list is left. `after`
        says how the last hold ended: if for a report, the policy's error puts back first what that
        has brought home.
        """
        if after not in _IN_VISIT:
            migratetype = next_list(self._base, at.zone, at.order, at.migratetype)
            if migratetype >= ISOLATE:
                return None
            at = at._replace(migratetype=migratetype)
        try:
            hold = self._policy.at_hold(at.order, self._hold_view(at), context)
        except PolicyError:
            if after == cycle.REPORT_NOW:
                yield from self._drain_apart(at.zone, error)
            raise
        return self._run(hold, at, error, 1)

    def _fixed_run(self, hold: Hold, place: tuple[int, int, int, int]) -> Run:
        """The next hold, at a zone, order, migratetype and answer, of a policy that looks at
        nothing: it says it for all lists that are left of the zone, and is not asked again.
        """
        run = self._fixed_runs.get(place)
        if run is None:
            zone, order, migratetype, error = place
            lists = (MAX_ORDER - order) * ISOLATE - migratetype
            at = ListOf(zone, order, migratetype, self._capacity)
            run = self._run(hold, at, error, lists)
            self._fixed_runs[place] = run
        return run

    def _run(self, hold: Hold, at: ListOf, error: int, lists: int) -> Run:
        arguments = (
            self._worker,
            at.zone,
            at.order,
            at.migratetype,
            hold.capacity,
            hold.take,
            hold.budget,
            hold.budget_capacity or hold.capacity,
            hold.budget_shift,
            int(hold.flush_before),
            hold.leave_free_pages,
            error,
            lists,
        )
        return Run("reporting-hold", reporting_hold, arguments)

    def _report(self) -> Generator[Want, Any, int]:
        """Have all that is pending reported; the host's answer."""
        if self._names_points:
            yield _AFTER_ISOLATE
        request, start, entries = yield self._submit
        error: int = yield Report(request, start, entries)
        if self._names_points:
            yield _BEFORE_DRAIN
        return error

    def _report_apart(self, zone: int) -> Steps:
        """A report that is part of no visit, and its drain."""
        error = yield from self._report()
        return (yield from self._drain_apart(zone, error))

    def _drain_apart(self, zone: int, error: int) -> Steps:
        """The drain of a report in a hold of its own."""
        drain = Run("drain-report", drain_report, (self._worker, zone, error))
        code = yield drain
        while code == cycle.LOCK_FAILED:
            yield _AWAIT_RECOVERY
            code = yield drain
        return _checked(code)


def _checked(code: int) -> int:
    if code == cycle.LIST_BROKEN:
        raise HarnessError("the scatterlist names a block that is not isolated")
    return code
