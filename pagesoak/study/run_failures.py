"""The requests of a run that got nothing, or had to reclaim by themselves: a record of each.

A request that comes to direct reclaim leaves `stalled`; if it ends there, `oom` or
`allocation-failed` of the same worker, order and mask follows, and both are one record. Without
them it was served in the end (or, where it is optional, gave way to something smaller, which
leaves no event). `oom` is followed by `oom-kill` when there is somebody to kill.

Records are numbered by time, from 1, so that a number means the same in every call.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pagesoak.study.report_windows import ReporterMoment, ReporterTrack, Window
from pagesoak.study.run_events import RunEvent

CAUSES = ("isolated", "fragmented", "exhausted")
"""As events number them; `base.statistics.CAUSES` without loading the core."""
BECAUSE = {
    "isolated": "because pages were isolated",
    "fragmented": "because memory was fragmented",
    "exhausted": "because memory was exhausted",
}
"""A cause as a reader meets it."""
KILLED = "killed"
FAILED = "failed"
STALLED = "stalled"
OUTCOMES = (KILLED, FAILED, STALLED)
ENDS = {"oom": KILLED, "allocation-failed": FAILED}
FAILURES_KEPT_MAX = 200_000
"""Records kept in memory, some hundred MB; the first explain a run, and the others are counted."""
NO_ZONE_MARGIN = -(1 << 61)
"""Below it a margin says that the request may use no zone at all."""


@dataclass(frozen=True)
class Failure:
    """A request that failed, killed or stalled. Pages are those of all zones; `event` is the
    number of the event that ended it (or of its stall), counted from 0 by time.
    """

    number: int
    event: int
    time_ns: int
    worker: int
    outcome: str
    order: int
    gfp: int
    free_pages: int
    isolated_pages: int
    margin_pages: int | None
    cause: str | None
    reporter: ReporterMoment
    stalled_ns: int | None = None
    load: int | None = None
    """Whose request it was, as far as that is on record."""
    victim: int | None = None
    victim_pages: int | None = None
    waited: bool = False
    """It waited for the open window before it would kill."""


class FailureTrack:
    """Collects the records; events are handed in by time, with what the reporter does then."""

    def __init__(self) -> None:
        self.found: list[Failure] = []
        self.left_out = 0
        self._pending: dict[int, Failure] = {}
        self._last_kill: dict[int, int] = {}
        self._bursts: dict[tuple[int, int], RunEvent] = {}

    def see(self, number: int, event: RunEvent, reporter: ReporterMoment | None) -> None:
        """Take in an event; `reporter` is needed with those of a request only."""
        if event.kind in {"burst-begin", "burst-taken", "burst-end"}:
            self._burst(event)
        elif event.kind == "oom-kill":
            self._kill(event)
        elif event.kind == "oom-wait":
            waiting = self._pending.get(event.worker)
            if waiting is not None:
                self._pending[event.worker] = replace(waiting, waited=True)
        elif reporter is not None:
            self._request(number, event, reporter)

    def finish(self) -> list[Failure]:
        """All records, by time."""
        for pending in self._pending.values():
            self._keep(pending)
        self._pending.clear()
        self.found.sort(key=lambda failure: failure.event)
        return [replace(failure, number=n) for n, failure in enumerate(self.found, 1)]

    def _request(self, number: int, event: RunEvent, reporter: ReporterMoment) -> None:
        fields = event.fields
        cause = fields.get("cause")
        margin = fields.get("margin_pages")
        failure = Failure(
            number=0,
            event=number,
            time_ns=event.time_ns,
            worker=event.worker,
            outcome=ENDS.get(event.kind, STALLED),
            order=fields["order"],
            gfp=fields["gfp"],
            free_pages=fields["free_pages"],
            isolated_pages=fields["isolated_pages"],
            margin_pages=None if margin is None or margin < NO_ZONE_MARGIN else margin,
            cause=None if cause is None else CAUSES[cause],
            reporter=reporter,
            load=self._taking(event.worker),
        )
        before = self._pending.pop(event.worker, None)
        if event.kind == STALLED:
            if before is not None:
                self._keep(before)
            self._pending[event.worker] = failure
            return
        if before is not None and (before.order, before.gfp) == (failure.order, failure.gfp):
            failure = replace(failure, stalled_ns=before.time_ns, waited=before.waited)
        elif before is not None:
            self._keep(before)
        self._last_kill[event.worker] = len(self.found) if event.kind == "oom" else -1
        self._keep(failure)

    def _kill(self, event: RunEvent) -> None:
        place = self._last_kill.pop(event.worker, -1)
        if 0 <= place < len(self.found):
            asking = event.fields["asking_load"]
            self.found[place] = replace(
                self.found[place],
                victim=event.fields["load"],
                victim_pages=event.fields["pages"],
                load=asking if asking >= 0 else self.found[place].load,
            )

    def _burst(self, event: RunEvent) -> None:
        key = event.worker, event.fields["load"]
        if event.kind == "burst-begin":
            self._bursts[key] = event
        else:
            self._bursts.pop(key, None)  # one that has its pages asks for no more

    def _taking(self, worker: int) -> int | None:
        """The load of the one burst that takes pages on this vCPU."""
        taking = [load for owner, load in self._bursts if owner == worker]
        return taking[0] if len(taking) == 1 else None

    def _keep(self, failure: Failure) -> None:
        if len(self.found) < FAILURES_KEPT_MAX:
            self.found.append(failure)
        else:
            self.left_out += 1


REQUEST_KINDS = frozenset({STALLED, *ENDS})


@dataclass(frozen=True)
class RunHistory:
    """What one reading of the events gives: the failures, the windows, first and last time."""

    failures: tuple[Failure, ...]
    failures_left_out: int
    windows: int
    windows_incomplete: int
    longest_window: Window | None
    isolated_pages_max: int
    events: int
    first_ns: int | None
    last_ns: int | None
    unseen_demands: int


def read_history(events: Iterable[RunEvent], *, has_device: bool) -> RunHistory:
    """Read all events once."""
    reporter = ReporterTrack(has_device=has_device)
    failures = FailureTrack()
    counts = {"windows": 0, "incomplete": 0, "most": 0, "unseen": 0}
    longest: Window | None = None
    first_ns = last_ns = None
    number = -1
    for number, event in enumerate(events):
        if first_ns is None:
            first_ns = event.time_ns
        last_ns = event.time_ns
        window = reporter.see(event)
        if window is not None:
            counts["windows"] += 1
            counts["incomplete"] += not window.complete
            if longest is None or window.length_ns(last_ns) > longest.length_ns(last_ns):
                longest = window
        if reporter.window is not None:
            counts["most"] = max(counts["most"], reporter.window.pages)
        counts["unseen"] += event.kind == "unseen-demand"
        of_request = event.kind in REQUEST_KINDS
        failures.see(number, event, reporter.moment() if of_request else None)
    return RunHistory(
        tuple(failures.finish()),
        failures.left_out,
        counts["windows"],
        counts["incomplete"],
        longest,
        counts["most"],
        number + 1,
        first_ns,
        last_ns,
        counts["unseen"],
    )


def worst(failures: Sequence[Failure]) -> Failure | None:
    """The failure that tells most: the first kill because of isolated pages; else the first
    request that got nothing, isolated ones before others; else the deepest stall.
    """
    ended = [failure for failure in failures if failure.outcome != STALLED]
    for chosen in _chosen(ended):
        return chosen
    return min(failures, key=_margin, default=None)


def _chosen(ended: Sequence[Failure]) -> Iterator[Failure]:
    yield from (f for f in ended if (f.outcome, f.cause) == (KILLED, CAUSES[0]))
    yield from ended


def _margin(failure: Failure) -> tuple[bool, int, int]:
    margin = failure.margin_pages
    return margin is None, margin or 0, failure.number


def by_cause(failures: Iterable[Failure]) -> dict[str, dict[str, int]]:
    """How many, by outcome and cause; `unknown` where the cause was not recorded."""
    counts = {outcome: dict.fromkeys((*CAUSES, "unknown"), 0) for outcome in OUTCOMES}
    for failure in failures:
        counts[failure.outcome][failure.cause or "unknown"] += 1
    return counts


def as_json(failure: Failure, start_ns: int | None, doing: str, gfp: str) -> dict[str, Any]:
    """The record as `explain --json` prints it; times in seconds after `start_ns`."""
    window = failure.reporter.window
    start = start_ns or 0
    stalled = failure.stalled_ns
    return {
        "number": failure.number,
        "seconds": (failure.time_ns - start) / 1e9,
        "stalled_seconds": None if stalled is None else (stalled - start) / 1e9,
        "worker": failure.worker,
        "load": failure.load,
        "outcome": failure.outcome,
        "victim_load": failure.victim,
        "victim_pages": failure.victim_pages,
        "waited_for_report": failure.waited,
        "order": failure.order,
        "gfp": gfp,
        "free_pages": failure.free_pages,
        "isolated_pages": failure.isolated_pages,
        "margin_pages": failure.margin_pages,
        "cause": failure.cause,
        "reporter_state": failure.reporter.state,
        "request": None if window is None else window.request,
        "doing": doing,
    }
