"""`pagesoak explain`: what failed in a run, the story of one failure, and how close it came when
nothing did.

`explain_run` reads the events twice: once for all failures and windows, once for the story. Times
are on the soak's clock; a run whose clock never started counts from its first event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pagesoak.base.errors import InputError
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study.gfp_names import gfp_name
from pagesoak.study.report_windows import Window
from pagesoak.study.run_events import EventReader
from pagesoak.study.run_failures import (
    Failure,
    RunHistory,
    as_json,
    by_cause,
    read_history,
    worst,
)
from pagesoak.study.run_record import RunRecord
from pagesoak.study.story import Story, tell
from pagesoak.study.story_words import Words, counterfactual, pages_words, span, why

FAILURES_LISTED_MAX = 10_000
"""Failures that `--all --json` lists, some 5 MB; the others are counted."""
NO_DEVICE_POLICY = "off"


@dataclass(frozen=True)
class Explanation:
    """All that can be told of a run; `story` is None when nothing failed."""

    record: RunRecord
    history: RunHistory
    words: Words
    story: Story | None
    notes: tuple[str, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every failed or stalled request, by time."""
        return self.history.failures


def explain_run(record: RunRecord, number: int | None = None, *, told: bool = True) -> Explanation:
    """Explain a run, with the story of failure `number`, or of the worst one; without a story
    when it is not to be told.

    Raises InputError when there is no such failure, or the events cannot be read.
    """
    reader = EventReader(record)
    has_device = record.policy != NO_DEVICE_POLICY
    history = read_history(reader, has_device=has_device)
    notes = (*record.notes, *reader.notes)
    if history.failures_left_out:
        left_out = history.failures_left_out
        notes = (*notes, f"{left_out:,} more failures and stalls are counted in no table")
    start_ns = record.started_ns if record.started_ns is not None else history.first_ns or 0
    words = Words(record, start_ns)
    chosen = _chosen(history.failures, number)
    story = None
    if chosen is not None and told:
        story = tell(reader, history.failures, chosen, words, has_device=has_device)
    return Explanation(record, history, words, story, notes)


def _chosen(failures: Sequence[Failure], number: int | None) -> Failure | None:
    if number is None:
        return worst(failures)
    if 1 <= number <= len(failures):
        return failures[number - 1]
    there = f"there are {len(failures):,}" if failures else "nothing failed or stalled"
    raise InputError(f"no failure {number}: {there}", key="--failure")


def counts_line(explanation: Explanation) -> str:
    """What failed, by outcome and cause, and how many windows there were."""
    parts = []
    for outcome, causes in by_cause(explanation.failures).items():
        total = sum(causes.values())
        named = ", ".join(f"{count:,} {cause}" for cause, count in causes.items() if count)
        parts.append(f"{total:,} {outcome}{f' ({named})' if total else ''}")
    history = explanation.history
    windows = f"{history.windows:,} report window{'' if history.windows == 1 else 's'}"
    if history.longest_window is not None:
        windows += f", the longest {span(history.longest_window.length_ns(0))}"
    return f"requests: {', '.join(parts)}; {windows}"


def closest_lines(explanation: Explanation) -> list[str]:
    """How close it came, of a run in which nothing failed."""
    record, history = explanation.record, explanation.history
    lines = ["Nothing failed, and no request had to reclaim by itself."]
    free = record.summary.get("free_pages_min")
    margins = record.summary.get("watermark_margin_pages_min")
    least = margins.get("min") if isinstance(margins, dict) else None
    if type(free) is int and type(least) is int and record.main_zone is not None:
        zone = record.main_zone
        side = "below" if least < 0 else "above"
        lines.append(
            f"Closest: {pages_words(free)} were free at least, all zones; zone {zone.name} was "
            f"{pages_words(abs(least))} {side} its min watermark of {zone.min_pages:,} at least."
        )
    else:
        lines.append("How close it came stands in the summary, which is not there.")
    most = record.summary.get("isolated_pages_max", history.isolated_pages_max)
    if type(most) is int and most:
        lines.append(f"At most {pages_words(most)} were isolated at once.")
    else:
        lines.append("No page was isolated.")
    if history.unseen_demands:
        lines.append(
            f"The policy met {history.unseen_demands:,} demands larger than it had expected."
        )
    return lines


def story_lines(explanation: Explanation) -> list[str]:
    """The sentences after the steps: the cause, and when the pages came back."""
    story = explanation.story
    if story is None:
        return []
    failure, record = story.failure, explanation.record
    lines = [why(failure, record)]
    if story.window is not None:
        if story.returned_after_ns is not None:
            back = f"{span(story.returned_after_ns)} later {pages_words(story.window.pages)}"
            lines.append(f"{back} came back.")
        else:
            lines.append("That the isolated pages came back is not on record.")
        if not story.window.complete:
            lines.append("Some events of this window are not on record.")
    return lines


def document(explanation: Explanation, *, listed: bool) -> dict[str, Any]:
    """The explanation as one object (docs/explain.md); `listed`: with the table of failures."""
    record, history, words = explanation.record, explanation.history, explanation.words
    start_ns = words.start_ns
    story = explanation.story
    found: dict[str, Any] = {
        "run": record.directory.name,
        "scenario": record.scenario_name,
        "policy": record.policy,
        "seed": record.seed,
        "mode": record.mode,
        "verdict": record.verdict,
        "events": history.events,
        "notes": list(explanation.notes),
        "failures_total": len(history.failures) + history.failures_left_out,
        "failures_by_outcome": by_cause(history.failures),
        "windows_total": history.windows,
        "windows_incomplete": history.windows_incomplete,
        "isolated_pages_max": history.isolated_pages_max,
        "unseen_demands": history.unseen_demands,
        "failure": None if story is None else _failure(story.failure, words),
        "story": None if story is None else _story(story, explanation),
    }
    if story is None:
        found["closest"] = closest_lines(explanation)
    if listed:
        found["failures"] = [
            _failure(failure, words) for failure in history.failures[:FAILURES_LISTED_MAX]
        ]
    if start_ns != record.started_ns:
        found["notes"].append("times count from the first event")
    return found


def _failure(failure: Failure, words: Words) -> dict[str, Any]:
    doing = words.doing(failure.reporter, failure.time_ns)
    return as_json(failure, words.start_ns, doing, gfp_name(failure.gfp))


def _story(story: Story, explanation: Explanation) -> dict[str, Any]:
    failure, words = story.failure, explanation.words
    numbers = counterfactual(failure, explanation.record)
    after_ns = story.returned_after_ns
    return {
        "header": words.header(failure),
        "steps": [
            {
                "seconds": (step.time_ns - words.start_ns) / NS_PER_SECOND,
                "from_failure_seconds": (step.time_ns - failure.time_ns) / NS_PER_SECOND,
                "kind": step.kind,
                "text": step.text,
                "failure": step.failure,
            }
            for step in story.steps
        ],
        "window": None if story.window is None else _window(story.window, words.start_ns),
        "returned_after_seconds": None if after_ns is None else after_ns / NS_PER_SECOND,
        "counterfactual": None if numbers is None else numbers._asdict(),
        "conclusion": story_lines(explanation),
    }


def _window(window: Window, start_ns: int) -> dict[str, Any]:
    def seconds(time_ns: int | None) -> float | None:
        return None if time_ns is None else (time_ns - start_ns) / NS_PER_SECOND

    drained = window.drained
    return {
        "request": window.request,
        "zone": window.zone,
        "opened_seconds": seconds(window.opened_ns),
        "reported_seconds": seconds(None if window.report is None else window.report.time_ns),
        "answered_seconds": seconds(None if window.answer is None else window.answer.time_ns),
        "drained_seconds": seconds(None if drained is None else drained.time_ns),
        "window_seconds": None if drained is None else window.length_ns(0) / NS_PER_SECOND,
        "pages": window.pages,
        "pages_by_order": [{"order": o, "pages": pages} for o, pages in window.pages_by_order],
        "returned_pages": None if drained is None else drained.fields["pages"],
        "reported_pages": None if drained is None else drained.fields["reported_pages"],
        "complete": window.complete,
    }
