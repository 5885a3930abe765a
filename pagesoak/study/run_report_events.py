"""What a report tells of a run's events by order and by window: one pass over them, bounded
however many there are.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pagesoak.base.units import NS_PER_MS
from pagesoak.study.report_windows import ReporterTrack, Window
from pagesoak.study.run_events import RunEvent
from pagesoak.study.run_failures import Failure

WINDOWS_LISTED_MAX = 10
"""The longest ones: more than a reader looks at."""
SHORTEST_CLASS_NS = NS_PER_MS
"""Windows are counted in classes that double; all shorter ones are in the first."""


class ListedWindow(NamedTuple):
    """A window that is over."""

    opened_ns: int
    length_ns: int
    request: int | None
    pages: int


@dataclass
class OrderFigures:
    """Of one order: what was isolated, and requests that did not get what they asked for."""

    blocks: int = 0
    pages: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    """Killed, failed and stalled requests, by outcome."""


@dataclass(frozen=True)
class EventFigures:
    """All of it. `classes` are upper bounds in ns and how many windows were that long at most."""

    orders: dict[int, OrderFigures]
    longest: tuple[ListedWindow, ...]
    classes: tuple[tuple[int, int], ...]


def event_figures(
    events: Iterable[RunEvent], failures: Iterable[Failure], *, has_device: bool
) -> EventFigures:
    """Go through the events once."""
    orders: dict[int, OrderFigures] = {}
    classes: dict[int, int] = {}
    longest: list[tuple[int, int, ListedWindow]] = []
    track = ReporterTrack(has_device=has_device)
    for number, event in enumerate(events):
        if event.kind == "isolated":
            figures = orders.setdefault(event.fields["order"], OrderFigures())
            figures.blocks += event.fields["entries"]
            figures.pages += event.fields["pages"]
        ended = track.see(event)
        if ended is not None:
            listed = _listed(ended, event.time_ns)
            bound = _class_of(listed.length_ns)
            classes[bound] = classes.get(bound, 0) + 1
            heapq.heappush(longest, (listed.length_ns, -number, listed))
            if len(longest) > WINDOWS_LISTED_MAX:
                heapq.heappop(longest)
    for failure in failures:
        outcomes = orders.setdefault(failure.order, OrderFigures()).outcomes
        outcomes[failure.outcome] = outcomes.get(failure.outcome, 0) + 1
    ranked = sorted(longest, key=lambda one: (-one[0], -one[1]))
    return EventFigures(
        dict(sorted(orders.items())),
        tuple(listed for _, _, listed in ranked),
        tuple(sorted(classes.items())),
    )


def _listed(window: Window, until_ns: int) -> ListedWindow:
    return ListedWindow(window.opened_ns, window.length_ns(until_ns), window.request, window.pages)


def _class_of(length_ns: int) -> int:
    """The upper bound of the class that a length is in."""
    bound = SHORTEST_CLASS_NS
    while bound < length_ns:
        bound *= 2
    return bound
