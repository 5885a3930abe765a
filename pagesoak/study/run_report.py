"""`pagesoak report`: all that a run's directory tells, gathered once for every form of the report.

`gather` reads a run; `Report.document` is the report as one object, from which the page and the
Markdown are made, so that all three say the same. The words about the summary are the caller's
(`Told`): they are those of `pagesoak run`.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.allocator.procfs import BuddyZone, read_buddyinfo
from pagesoak.base.errors import InputError
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study import explain
from pagesoak.study.run_events import EventReader
from pagesoak.study.run_failures import Failure, worst
from pagesoak.study.run_record import RunRecord, shown
from pagesoak.study.run_report_events import EventFigures, event_figures
from pagesoak.study.story import Story, tell
from pagesoak.study.timeline import Picture, picture_of

STORIES_MAX = 4
"""One for each outcome and cause, the worst first: a fourth of a kind tells nothing new."""
IDENTITY_BYTES_MAX = 1 << 20
"""Of run.json, which has a KiB."""
SCENARIO_CHARS_MAX = 1 << 18
"""Of the scenario's text: what a scenario may have at most."""
IDENTITY = {
    "pagesoak": "pagesoak",
    "core": "core",
    "numba": "Numba",
    "python": "Python",
    "kernel": "kernel of the machine",
    "machine": "machine",
    "host_cpus": "CPUs",
    "started": "started",
}
"""Of run.json: what is named, and how."""


class Told(NamedTuple):
    """A summary in words: the headline, and rows of what and how much."""

    headline: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Report:
    """One run, ready to be written down."""

    record: RunRecord
    picture: Picture
    stories: tuple[explain.Explanation, ...]
    """Of the worst failure of each outcome and cause."""
    figures: EventFigures
    free_blocks: tuple[BuddyZone, ...]
    identity: dict[str, Any]
    scenario_text: str
    told: Told

    def document(self) -> dict[str, Any]:
        """The report of this run as one object (docs/report.md)."""
        record, explanation = self.record, self.picture.explanation
        start_ns = explanation.words.start_ns
        found = explain.document(explanation, listed=False)
        return {
            "run": shown(record.directory.name),
            "directory": shown(record.directory),
            "title": record.title,
            "scenario": record.scenario_name,
            "description": shown_text(record.scenario.get("description", "")),
            "policy": record.policy,
            "seed": record.seed,
            "mode": record.mode,
            "verdict": record.verdict,
            "headline": self.told.headline,
            "figures": [list(row) for row in self.told.rows],
            "failures_by_outcome": found["failures_by_outcome"],
            "closest": [] if explanation.failures else explain.closest_lines(explanation),
            "stories": [explain.document(one, listed=False) for one in self.stories],
            "windows": {
                "total": explanation.history.windows,
                "classes": [
                    {"seconds_at_most": bound / NS_PER_SECOND, "windows": times}
                    for bound, times in self.figures.classes
                ],
                "longest": [
                    {
                        "opened_seconds": (one.opened_ns - start_ns) / NS_PER_SECOND,
                        "window_seconds": one.length_ns / NS_PER_SECOND,
                        "request": one.request,
                        "pages": one.pages,
                    }
                    for one in self.figures.longest
                ],
            },
            "watermarks": [zone._asdict() for zone in watermarks(record)],
            "orders": self._orders(),
            "environment": self.identity,
            "reproduce": reproduce(record, self.identity),
            "scenario_toml": self.scenario_text,
            "notes": [*self.picture.notes],
        }

    def _orders(self) -> list[dict[str, Any]]:
        """A row for each order that occurs: isolated, refused, free at the end."""
        free = _free_by_order(self.free_blocks)
        rows = []
        for order in sorted(self.figures.orders.keys() | free.keys()):
            figures = self.figures.orders.get(order)
            outcomes = figures.outcomes if figures is not None else {}
            rows.append(
                {
                    "order": order,
                    "isolated_blocks": figures.blocks if figures is not None else 0,
                    "isolated_pages": figures.pages if figures is not None else 0,
                    "killed": outcomes.get("killed", 0),
                    "failed": outcomes.get("failed", 0),
                    "stalled": outcomes.get("stalled", 0),
                    "free_blocks_after": free.get(order),
                }
            )
        return rows


class Watermarks(NamedTuple):
    """A zone, in pages."""

    zone: str
    managed_pages: int
    min_pages: int
    low_pages: int
    high_pages: int


def gather(record: RunRecord, tell_summary: Callable[[dict[str, Any]], Told]) -> Report:
    """Read all of a run that is told; what is damaged is left out and noted."""
    notes: list[str] = []
    told = _told(record, tell_summary, notes)
    picture = picture_of(record)
    explanation = picture.explanation
    has_device = record.policy != explain.NO_DEVICE_POLICY
    figures = event_figures(EventReader(record), explanation.failures, has_device=has_device)
    free_blocks = _free_blocks(record.directory / "after.buddyinfo", notes)
    identity = _identity(record.directory / "run.json", notes)
    text = _scenario_text(record, notes)
    picture = replace(picture, notes=(*picture.notes, *notes))
    stories = tuple(
        replace(explanation, story=one) for one in _stories(explanation, has_device=has_device)
    )
    return Report(record, picture, stories, figures, free_blocks, identity, text, told)


def _told(
    record: RunRecord, tell_summary: Callable[[dict[str, Any]], Told], notes: list[str]
) -> Told:
    if not record.summary:
        return Told("did not end in order: there is no summary", ())
    try:
        return tell_summary(dict(record.summary))
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        notes.append("summary.json: not all figures are there: they are left out")
        return Told(record.verdict or "without a verdict", ())


def _stories(explanation: explain.Explanation, *, has_device: bool) -> list[Story]:
    stories: list[Story] = []
    left: Sequence[Failure] = explanation.failures
    while left and len(stories) < STORIES_MAX:
        chosen = worst(left)
        if chosen is None:
            break
        stories.append(
            tell(
                EventReader(explanation.record),
                explanation.failures,
                chosen,
                explanation.words,
                has_device=has_device,
            )
        )
        kind = (chosen.outcome, chosen.cause)
        left = [failure for failure in left if (failure.outcome, failure.cause) != kind]
    return stories


def watermarks(record: RunRecord) -> list[Watermarks]:
    """Of every zone that is known."""
    return [
        Watermarks(zone.name, zone.managed_pages, zone.min_pages, zone.low_pages, zone.high_pages)
        for zone in record.zones
    ]


def reproduce(record: RunRecord, identity: dict[str, Any]) -> str:
    """The command that makes the run again, from the scenario that its directory keeps."""
    words = ["pagesoak", "run", str(record.directory / "scenario.toml")]
    if record.mode == "virtual":
        words.append("--virtual")
    said = shlex.join(words)
    made = identity.get("pagesoak")
    return shown_text(f"{said}  # made by pagesoak {made}" if made else said)


def shown_text(text: object) -> str:
    """A longer text from a file, in one line, unprintable characters escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)[:SCENARIO_CHARS_MAX]
    )


def _free_blocks(path: Path, notes: list[str]) -> tuple[BuddyZone, ...]:
    if not path.exists():
        return ()
    try:
        return read_buddyinfo(path)
    except InputError as error:
        notes.append(f"after.buddyinfo: damaged: {shown(error.message)}")
        return ()


def _free_by_order(zones: Sequence[BuddyZone]) -> dict[int, int]:
    free: dict[int, int] = {}
    for zone in zones:
        for order, blocks in enumerate(zone.free_blocks):
            free[order] = free.get(order, 0) + blocks
    return free


def _identity(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(IDENTITY_BYTES_MAX))
        return {key: shown(fields[key]) for key in IDENTITY if key in fields}
    except (OSError, ValueError, TypeError, RecursionError):
        notes.append("run.json: cannot be read: where it ran is not known")
        return {}


def _scenario_text(record: RunRecord, notes: list[str]) -> str:
    try:
        with (record.directory / "scenario.toml").open("rb") as file:
            text = file.read(SCENARIO_CHARS_MAX).decode("utf-8", "replace")
    except OSError:
        notes.append("scenario.toml: cannot be read: what was run is not known")
        return ""
    return "\n".join(shown_text(line) for line in text.splitlines())


def report_document(reports: Sequence[Report]) -> dict[str, Any]:
    """The whole report as one object."""
    return {"runs": [report.document() for report in reports]}
