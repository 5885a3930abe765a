"""Driving the model along a trace, event by event, and judging what it predicts.

Requests are what the trace gives: allocations (order, type, GFP), frees (page, in the order in
which they take effect), what compaction isolates outside of reporting passes, and when: passes,
report calls and their returns, runs of kswapd. Everything else is predicted. Which of the
recorded figures is used when, and how it goes on after a miss: `fidelity_trace_repair`.
"""

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.profile import Profile
from pagesoak.base.errors import InputErrors
from pagesoak.base.layout import Z_COUNTER_DRIFT
from pagesoak.reporter.passes import REPORTING_ORDER
from pagesoak.study import fidelity_trace_events as events
from pagesoak.study.fidelity_result import Fault, NotChecked
from pagesoak.study.fidelity_trace_core import ALLOC, FREE, FREED, ISOLATE, trace_isolate
from pagesoak.study.fidelity_trace_driven import (
    Driven,
    first_difference,
    page_text,
    reported_orders,
    state_text,
)
from pagesoak.study.fidelity_trace_events import TraceColumns
from pagesoak.study.fidelity_trace_findings import Findings
from pagesoak.study.fidelity_trace_guest import TraceGuest
from pagesoak.study.fidelity_trace_inputs import Snapshots
from pagesoak.study.fidelity_trace_kswapd import Kswapd, Request, run_ends
from pagesoak.study.fidelity_trace_reclaim import ReclaimEvents
from pagesoak.study.fidelity_trace_repair import (
    BULK,
    LATER_END,
    NAMED_OTHERWISE,
    GuestPair,
    Repair,
)
from pagesoak.study.fidelity_trace_reporter import Entries, TraceReporter

NOT_AWAKE = -1
IDLE_NS = 100_000_000
"""A pause between two events from which on the guest is taken to have slept: its CPU has told the
counters everything (`quiet_vmstat`). No computation takes so long from page to page.
"""


class TraceRun:
    """One trace, one pass over its events."""

    def __init__(
        self,
        columns: TraceColumns,
        snapshots: Snapshots,
        profile: Profile,
        file: str,
        findings: Findings,
    ) -> None:
        self._columns = columns
        self._snapshots = snapshots
        self._profile = profile
        self._file = file
        self._found = findings
        self._ends = run_ends(columns)
        self._driven: Driven | None = None
        self._other_name: dict[int, int] = {}
        """Recorded page to the model's, where they differ."""
        self._pass_task = -1
        """Who begins a pass but has not isolated anything yet; -1 nobody."""
        self._in_pass = False
        self._isolated: Entries = []
        """As recorded, to compare with."""
        self._gap = False
        """Something before the next snapshot is missing from the trace."""
        self._last_ns = 0
        self._reclaim = ReclaimEvents()
        self._awake = NOT_AWAKE
        """Index of the event at which kswapd's present run began."""

    def run(self) -> None:
        """Go through the trace."""
        columns = self._columns
        try:
            for index, kind in enumerate(columns.kind):
                self._event(index, kind)
        finally:
            self._drop()
        self._found.not_checked += columns.unread_allocations

    def _place(self, index: int) -> str:
        return f"{self._file}:{self._columns.line[index]}"

    def _event(self, index: int, kind: int) -> None:
        driven = self._driven
        if kind == events.KSWAPD_WAKE:
            self._awake = index
        if driven is None:
            self._without_guest(index, kind)
        else:
            self._with_guest(driven, index, kind)
        if index in self._ends:
            self._awake = NOT_AWAKE
            if driven is not None and self._driven is driven:
                self._reclaim.kswapd_ended(driven, self._columns.time_ns[index])

    def _with_guest(self, driven: Driven, index: int, kind: int) -> None:
        if kind == events.PREPARED or kind in events.NO_REQUEST:
            return
        time_ns = self._columns.time_ns[index]
        if time_ns - self._last_ns > IDLE_NS:
            driven.pair.fold_counters()
        self._last_ns = time_ns
        if self._pass_task >= 0 and not self._before_isolation(index, kind):
            self._begin_pass(driven)
        if kind == kinds.MM_PAGE_ALLOC:
            self._alloc(driven, index)
        elif kind in events.FREES:
            self._free(driven, index)
        else:
            self._rarer(driven, index, kind)

    def _without_guest(self, index: int, kind: int) -> None:
        """Nothing is known of the guest: before the first exact snapshot, or after lost events."""
        if kind == kinds.MM_PAGE_ALLOC:
            self._found.not_checked += 1
        elif kind == kinds.TRUTH_CAPTURE:
            snapshot = self._snapshots.at(self._columns.time_ns[index])
            if snapshot is None:
                self._no_snapshot(index)
            elif self._in_pass:
                self._no_start(index)
            else:
                self._load(snapshot, index)
                if not self._found.first_line:
                    self._found.first_line = self._columns.line[index]
        elif kind == kinds.LOST:
            self._lost(index)
        elif kind in events.PASS:
            self._in_pass = kind == kinds.PROCESS

    def _before_isolation(self, index: int, kind: int) -> bool:
        """What a pass does before it takes the zone lock: it allocates its scatterlist."""
        columns = self._columns
        return columns.task[index] == self._pass_task and kind == kinds.MM_PAGE_ALLOC

    def _begin_pass(self, driven: Driven) -> None:
        self._pass_task = -1
        driven.reporter.begin_pass()
        driven.changed()

    def _alloc(self, driven: Driven, index: int) -> None:
        columns = self._columns
        request = Request(
            columns.time_ns[index],
            ALLOC,
            columns.pfn[index],
            columns.order[index],
            columns.migratetype[index],
            columns.gfp[index],
        )
        got = driven.pair.alloc(request)
        self._found.allocations.judge(got == request.pfn)
        if got == request.pfn:
            if self._other_name:
                self._other_name.pop(got, None)
            driven.kswapd.note(request)
            return
        self._missed(driven, index, request, got)

    def _missed(self, driven: Driven, index: int, request: Request, got: int) -> None:
        pfn = request.pfn
        if pfn >= 0 and not self._in_a_zone(driven.pair.guest, index, pfn):
            return
        state = state_text(driven.pair.guest, pfn)
        if driven.kswapd.reconsider(driven.pair.guest, request):
            driven.pair.same()
            repair = Repair(LATER_END)
        else:
            repair = driven.pair.repair(request, got)
            if repair.reason == NAMED_OTHERWISE and got >= 0:
                driven.pair.alloc(request._replace(pfn=got))
                self._other_name[pfn] = got
            driven.kswapd.forget()
        self._found.repairs[repair.reason] += 1
        if repair.reason == BULK:
            self._bulk(index, repair.pages)
        doing = (
            f"{self._task(index)} allocates order {request.order}, type {request.migratetype}; "
            f"the expected page is {state}; {repair.reason}"
        )
        if repair.pages:
            doing += f", {repair.pages} of them"
        self._found.diverges(self._place(index), page_text(pfn), page_text(got), doing)

    def _bulk(self, index: int, pages: int) -> None:
        """Pages are gone without an event: a gap in the trace."""
        self._gap = True
        place, task = self._place(index), self._task(index)
        self._found.bulk.append({"where": place, "pages": pages, "task": task})

    def _task(self, index: int) -> str:
        return self._columns.tasks[self._columns.task[index]]

    def _free(self, driven: Driven, index: int) -> None:
        columns = self._columns
        pfn = columns.pfn[index]
        if self._other_name:
            pfn = self._other_name.pop(pfn, pfn)
        past = self._past_pageset(driven.pair.guest, index)
        request = Request(
            columns.time_ns[index], FREE, pfn, columns.order[index], past_pageset=past
        )
        if not self._in_a_zone(driven.pair.guest, index, pfn):
            return
        if past:
            self._found.past_pageset += 1
        if driven.pair.free(request) == FREED:
            driven.kswapd.note(request)
            return
        self._found.unseen_frees += 1
        if driven.pair.take_unseen(pfn, request.order):
            driven.pair.free(request)
        driven.kswapd.forget()

    def _in_a_zone(self, guest: TraceGuest, index: int, pfn: int) -> bool:
        """Whether the block of an event can exist; else that is a fault of the trace."""
        order = self._columns.order[index]
        if guest.holds(pfn, order):
            return True
        message = f"no block of order {order} at pfn {pfn:#x} in the zones of the snapshot"
        self._found.fault(Fault(self._place(index), message))
        return False

    def _past_pageset(self, guest: TraceGuest, index: int) -> int:
        """Whether the pageset's lock is held by what this free interrupts (FACTS, 10)."""
        held = self._columns.interrupted.get(index)
        pfn = self._columns.pfn[index]
        return int(held is not None and guest.zone_of(held) == guest.zone_of(pfn))

    def _rarer(self, driven: Driven, index: int, kind: int) -> None:
        columns = self._columns
        if kind == kinds.TRUTH_CAPTURE:
            self._compare(driven, index)
        elif kind == kinds.LOST:
            self._lost(index)
        elif kind == kinds.PROCESS:
            self._pass_task = columns.task[index]
            self._in_pass = True
            self._isolated = []
        elif kind == kinds.PROCESS_RET:
            self._end_pass(driven, index)
        elif kind == kinds.REPORT:
            self._report(driven, index)
        elif kind == kinds.REPORT_RET:
            driven.reporter.answer(0 if columns.value[index] == 0 else 1)
            driven.changed()
        elif kind == kinds.ISOLATE:
            self._isolate(driven, index)
        elif kind in events.RECLAIM:
            self._found.kswapd_runs += kind == events.KSWAPD_WAKE
            self._reclaim.event(driven, columns, index)

    def _isolate(self, driven: Driven, index: int) -> None:
        columns = self._columns
        pfn, order = columns.pfn[index], columns.order[index]
        if self._in_pass and self._pass_worker(index):
            self._isolated.append((pfn, order))
            return
        if not self._in_a_zone(driven.pair.guest, index, pfn):
            return
        self._found.compaction_isolated += 1 << order
        if trace_isolate(driven.pair.guest.base, pfn, order) != 1:
            self._found.diverges(
                self._place(index),
                f"compaction isolates {page_text(pfn)} of order {order}",
                state_text(driven.pair.guest, pfn),
                "taking what compaction isolates as its request",
            )
        driven.pair.same()
        driven.kswapd.note(Request(columns.time_ns[index], ISOLATE, pfn, order))

    def _pass_worker(self, index: int) -> bool:
        """Isolation by the reporter's own task, and not by compaction during a pass."""
        return not self._task(index).startswith("kcompactd")

    def _report(self, driven: Driven, index: int) -> None:
        predicted = driven.reporter.entries()
        exact = predicted == self._isolated and len(predicted) == self._columns.value[index]
        self._found.reports.judge(exact)
        if not exact:
            self._found.diverges(
                self._place(index),
                f"a report of {self._columns.value[index]} entries",
                f"{len(predicted)} entries, {first_difference(self._isolated, predicted)}",
                "reporting",
            )
        self._isolated = []

    def _end_pass(self, driven: Driven, index: int) -> None:
        self._in_pass = False
        while driven.reporter.reporting:
            self._found.reports.judge(False)
            got = f"a report of {len(driven.reporter.entries())} entries"
            self._found.diverges(self._place(index), "the pass ends", got, "reporting")
            driven.reporter.answer(0)
        driven.changed()

    def _compare(self, driven: Driven, index: int) -> None:
        snapshot = self._snapshots.at(self._columns.time_ns[index])
        if snapshot is None:
            self._no_snapshot(index)
            return
        differences = driven.pair.guest.differences(snapshot)
        self._found.snapshots.judge(not differences)
        if differences:
            if pages := driven.pair.take_stacks(snapshot):
                self._bulk(index, pages)
                driven.changed()
            self._found.unexplained_snapshots += not self._gap
            more = f"; {len(differences) - 1} more" if len(differences) > 1 else ""
            self._found.diverges(
                self._place(index), "the exact snapshot", differences[0] + more, "comparing"
            )
            if self._in_pass:
                self._no_start(index)
            else:
                self._reload(driven, snapshot, index)
        else:
            for zone, recorded in enumerate(snapshot.zones):
                drift = recorded.listed_pages - recorded.nr_free
                driven.pair.guest.set_zone_word(zone, Z_COUNTER_DRIFT, drift)
            driven.changed()
        self._gap = False

    def _reload(self, driven: Driven, snapshot: FreeListSnapshot, index: int) -> None:
        """Go on from a snapshot that the model does not match."""
        boosts = driven.pair.guest.boosts()
        driven.close()
        began = self._load(snapshot, index)
        if began is not None:
            began.pair.guest.set_boosts(boosts)
            began.pair.same()

    def _no_start(self, index: int) -> None:
        reason = "taken during a reporting pass: what is isolated then is in no list of it"
        self._found.left_out.append(
            NotChecked("snapshot to start from", self._place(index), reason)
        )

    def _no_snapshot(self, index: int) -> None:
        self._found.left_out.append(
            NotChecked("snapshot", self._place(index), "no readable snapshot of that time")
        )

    def _lost(self, index: int) -> None:
        """Nothing is known of the guest any more, up to the next exact snapshot."""
        number = self._columns.value[index]
        told = "events" if number < 0 else f"{number} events"
        self._found.left_out.append(
            NotChecked(
                "allocations",
                self._place(index),
                f"{told} lost: nothing is checked up to the next exact snapshot",
            )
        )
        self._drop()
        self._in_pass = False

    def _load(self, snapshot: FreeListSnapshot, index: int) -> Driven | None:
        """Start from an exact snapshot; None when the model cannot hold its guest."""
        self._driven = None
        self._pass_task = -1
        file = self._place(index)
        try:
            guests = [TraceGuest(snapshot, self._profile, file) for _ in range(3)]
        except InputErrors as error:
            self._found.left_out.append(NotChecked("allocations", file, str(error)))
            return None
        pair = GuestPair(guests[0], guests[1])
        order = min([REPORTING_ORDER, *reported_orders(snapshot)])
        self._driven = Driven(pair, TraceReporter(guests[0].segment, order), Kswapd(guests[2]))
        pair.same()
        self._other_name.clear()
        self._last_ns = self._columns.time_ns[index]
        if self._awake != NOT_AWAKE:
            self._reclaim.event(self._driven, self._columns, self._awake)
        return self._driven

    def _drop(self) -> None:
        """Forget the guest."""
        if self._driven is not None:
            self._driven.close()
        self._driven = None
        self._pass_task = -1
