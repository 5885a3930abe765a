"""What a policy would do to a guest with nobody else running, pass after pass.

The reporter itself, with its policy, on the model's core; here is only what stands around it. A
host that answers every call at once, a clock that is never waited for, and no other worker. It
ends when the reporter waits for a free that nobody makes: all is reported, or it was stopped.

One thing may happen besides, because the mail's argument about a stale threshold is about it: in
the first window a user takes some pages.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pagesoak.allocator.populate import plan_from_snapshot, populate_snapshot
from pagesoak.allocator.single import take_free_pages
from pagesoak.base import layout
from pagesoak.base.errors import HarnessError, InputError
from pagesoak.base.segment import Segment
from pagesoak.base.wants import AwaitPass, Now, Report, Run, Sleep, Want
from pagesoak.engine.policy_limit import limit_of
from pagesoak.reporter.guard import Guarded, PolicyError
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.options import label, option_values
from pagesoak.reporter.policy import Policy, ZoneView
from pagesoak.reporter.views import ListOf, hold_view
from pagesoak.reporter.worker import reporter_worker
from pagesoak.study.window_guests import WindowGuest

PASSES_MAX = 10_000
"""More than the 64 GiB of the largest guest need, one block at a time in each of them."""
CPUS_MIN = 1
FAR_NS = (1 << 62) - 1
"""Deadline of a call of the core: none."""


class WindowSettings(NamedTuple):
    """The device, and the user of the first window."""

    order: int = 9
    capacity: int = 32
    factor_percent: int | None = None
    taken_pages: int = 0


@dataclass
class Call:
    """One report: blocks in scatterlist order, and what is free in its zone meanwhile."""

    blocks: tuple[tuple[int, int], ...]
    """First page and order."""
    free_pages: int

    def counts(self) -> dict[int, int]:
        """Blocks by order."""
        orders = [order for _, order in self.blocks]
        return {order: orders.count(order) for order in sorted({*orders})}


@dataclass
class Pass:
    """One pass over all zones."""

    gate_open: bool = False
    """Of any zone."""
    capacities: dict[int, int] = field(default_factory=dict)
    """By order: the entries that the policy allows, as the zone begins, and where it has blocks,
    as its first visit does.
    """
    calls: list[Call] = field(default_factory=list)
    requested_again: bool = False


@dataclass
class Window:
    """All passes of one policy on one guest; `stopped` says what it did that no policy may."""

    policy: Policy
    free_pages: int
    """Of the largest zone, at the start."""
    exact: bool
    passes: list[Pass] = field(default_factory=list)
    isolated_pages_max: int = 0
    stopped: str | None = None

    @property
    def calls(self) -> list[Call]:
        """Of all passes."""
        return [call for one in self.passes for call in one.calls]

    @property
    def free_pages_min(self) -> int:
        """The least that was free in a window; what is free where nothing is reported."""
        return min((call.free_pages for call in self.calls), default=self.free_pages)

    @property
    def label(self) -> str:
        """The policy with its options."""
        return label(self.policy, self.policy.name)

    def as_json(self) -> dict[str, Any]:
        """The window as a JSON object; page frames are null where the input names none."""
        return {
            "name": self.policy.name,
            "options": option_values(self.policy),
            "passes": [
                {
                    "gate_open": one.gate_open,
                    "capacities": _pairs("capacity", one.capacities),
                    "calls": [
                        {
                            "entries": _pairs("count", call.counts()),
                            "pfns": [pfn for pfn, _ in call.blocks] if self.exact else None,
                            "free_pages_in_window": call.free_pages,
                        }
                        for call in one.calls
                    ],
                    "requested_again": one.requested_again,
                }
                for one in self.passes
            ],
            "isolated_pages_max": self.isolated_pages_max,
            "free_pages_min": self.free_pages_min,
            **({"stopped": self.stopped} if self.stopped is not None else {}),
        }


def _pairs(name: str, by_order: dict[int, int]) -> list[dict[str, int]]:
    return [{"order": order, name: value} for order, value in by_order.items()]


def look(guest: WindowGuest, policy: Policy, settings: WindowSettings) -> Window:
    """What this policy does to this guest.

    Raises InputError for a guest that the model cannot hold, or a user who takes more than there
    is. A policy that does what it may not is no error here: the window says so.
    """
    seen = [pageset.cpu for zone in guest.snapshot.zones for pageset in zone.pagesets]
    segment = Segment.create(plan_from_snapshot(guest.snapshot, cpus=max(seen, default=0) + 1))
    try:
        populate_snapshot(segment, guest.snapshot, reported_order_min=settings.order)
        for zone, boost in enumerate(guest.boosts):
            segment.zones[zone * layout.ZONE_WORDS + layout.Z_BOOST] = boost
        segment.report[layout.R_EVENTFD] = -1
        return _Look(segment, guest, policy, settings).run()
    finally:
        segment.close()


class _Asked(Guarded):
    """A policy that is also asked, at the start of a zone, what each order would get then: those
    without a block on a list, too, for which no reporter would ask.
    """

    def __init__(self, policy: Policy, base: int, worker: int, window: Window) -> None:
        super().__init__(policy, limit_of(policy))
        self.fixed_hold = None  # asked at every zone
        self._base = base
        self._worker = worker
        self._window = window

    def at_zone(self, view: ZoneView) -> Any:
        """The context; the capacities go to the pass that begins."""
        context = super().at_zone(view)
        if context is not None:
            for order in range(view.order, layout.MAX_ORDER):
                self._window.passes[-1].capacities[order] = self._capacity(order, view, context)
        return context

    def _capacity(self, order: int, view: ZoneView, context: Any) -> int:
        if self.plans_orders:
            plan = self.at_order(order, view, context)
            context = context if plan.context is None else plan.context
        at = ListOf(view.zone, order, layout.MOVABLE, view.capacity)
        hold = hold_view(self._base, self._worker, at, whole=self.watches_demand)
        return self.at_hold(order, hold, context).capacity


class _Look:
    """One reporter, driven to its end."""

    def __init__(
        self, segment: Segment, guest: WindowGuest, policy: Policy, settings: WindowSettings
    ) -> None:
        self._segment = segment
        self._zone = guest.largest_zone
        self._settings = settings
        free = self._free_pages(self._zone)
        self._window = Window(policy, free, guest.exact)
        self._visited: set[int] = set()
        """Orders of which a list has been visited in this pass."""
        device = ReporterSettings(
            segment.plan.zones,
            order=settings.order,
            capacity=settings.capacity,
            factor=settings.factor_percent,
        )
        number = segment.plan.cpus
        asked = _Asked(policy, segment.base, number, self._window)
        self._worker = reporter_worker(segment.base, number, asked, device)

    def run(self) -> Window:
        """Until the reporter waits for a free."""
        window = self._window
        answer: Any = None
        try:
            while len(window.passes) <= PASSES_MAX:
                want = self._worker.send(answer)
                if isinstance(want, AwaitPass):
                    break
                answer = self._answer(want)
            else:
                raise HarnessError(f"the reporter makes more than {PASSES_MAX} passes")
        except StopIteration:
            pass
        except PolicyError as error:
            window.stopped = error.message
        window.isolated_pages_max = self._segment.header[layout.H_ISOLATED_PAGES_MAX]
        return window

    def _free_pages(self, zone: int) -> int:
        return self._segment.zones[zone * layout.ZONE_WORDS + layout.Z_FREE_PAGES]

    def _answer(self, want: Want) -> Any:
        match want:
            case Run():
                return self._run(want)
            case Sleep():
                return want.deadline_ns
            case Now():
                return 0
            case Report():
                return self._report(want)
        return None

    def _run(self, want: Run) -> Any:
        passes = self._window.passes
        if want.name == "begin-pass":
            passes.append(Pass())
            self._visited.clear()
        elif want.name == "reporting-hold":
            order, capacity = want.arguments[2], want.arguments[4]
            if order not in self._visited:
                self._visited.add(order)
                passes[-1].capacities[order] = capacity
        result = want.function(self._segment.base, *want.arguments, FAR_NS)
        if want.name in {"begin-pass", "open-zone"}:
            passes[-1].gate_open |= result < self._segment.plan.zones
        elif want.name == "end-pass":
            passes[-1].requested_again = result == layout.REQUESTED
        return result

    def _report(self, want: Report) -> int:
        report = self._segment.report
        blocks = []
        for index in range(want.start, want.start + want.entries):
            at = layout.R_ENTRIES + index * layout.ENTRY_WORDS
            blocks.append((report[at + layout.E_PFN], report[at + layout.E_ORDER]))
        first = not self._window.calls
        free = self._free_pages(report[layout.R_ZONE])
        self._window.passes[-1].calls.append(Call(tuple(blocks), free))
        if first and self._settings.taken_pages:
            self._take(self._settings.taken_pages)
        return 0

    def _take(self, pages: int) -> None:
        taken = take_free_pages(self._segment.base, self._zone, pages)
        if taken < pages:
            said = f"{pages} pages are to be taken in the first window, {taken} are free in it"
            raise InputError(said, key="--take")
