"""The story of one failure: what led to it, it, and what came after, event by event.

The events are read once more up to the failure and beyond it, until the window that was open then
is over and the burst has ended. What lies before is kept as the latest of each kind that matters
(the request for the pass, its start, the isolations of the batch, the report, the burst's
beginning, the stall), so that a run of any length needs the memory of one window.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study.report_windows import NOTIFY_ACTIVE, ReporterTrack, Window
from pagesoak.study.run_events import RunEvent
from pagesoak.study.run_failures import STALLED, Failure
from pagesoak.study.story_words import Words, pages_words, span

AFTER_NS_MAX = NS_PER_SECOND
"""How long after a failure without an open window its burst's end is looked for."""
LISTS_TOLD_MAX = 8
"""Isolations of a batch that are told one by one: as many as a pass has lists in one zone."""


@dataclass(frozen=True)
class Step:
    """One event of a story: when, of which kind, in words. `failure` marks what it is about."""

    time_ns: int
    kind: str
    text: str
    failure: bool = False


@dataclass(frozen=True)
class Story:
    """The steps by time, and the window that the failure fell into, as it ended."""

    failure: Failure
    steps: tuple[Step, ...]
    window: Window | None
    returned_after_ns: int | None
    """How long after the failure the isolated pages were back."""


@dataclass
class _Telling:
    """What is gathered while the events go by."""

    failure: Failure
    words: Words
    steps: list[Step] = field(default_factory=list)
    window: Window | None = None
    burst_over: bool = True


def tell(
    events: Iterable[RunEvent],
    failures: Sequence[Failure],
    failure: Failure,
    words: Words,
    *,
    has_device: bool,
) -> Story:
    """The story of one of the failures that `read_history` found in these events."""
    reporter = ReporterTrack(has_device=has_device)
    telling = _Telling(failure, words)
    bursts: dict[tuple[int, int], RunEvent] = {}
    stall: RunEvent | None = None
    for number, event in enumerate(events):
        if number > failure.event:
            if not _after(telling, reporter, event):
                break
            continue
        reporter.see(event)
        if event.kind == "burst-begin":
            bursts[event.worker, event.fields["load"]] = event
        elif event.kind == "burst-end":
            bursts.pop((event.worker, event.fields["load"]), None)
        elif event.kind == STALLED and event.worker == failure.worker:
            stall = event
        if number == failure.event:
            telling.window = reporter.window
            telling.steps += _reporter_steps(reporter, words)
            telling.steps += _own_steps(telling, bursts, stall, event)
    return _ended(telling, failures)


def _ended(telling: _Telling, failures: Sequence[Failure]) -> Story:
    failure, window = telling.failure, telling.window
    returned_ns = None
    if window is not None:
        until_ns = window.opened_ns + window.length_ns(telling.steps[-1].time_ns)
        inside = [f.event for f in failures if window.opened_ns <= f.time_ns <= until_ns]
        before = sum(event < failure.event for event in inside)
        later = sum(event > failure.event for event in inside)
        if before or later:
            said = f"in this window {before:,} more requests failed or stalled before, {later:,}"
            telling.steps.append(Step(until_ns, "others", f"{said} after"))
        if window.drained is not None:
            returned_ns = window.drained.time_ns - failure.time_ns
    steps = sorted(telling.steps, key=lambda step: step.time_ns)
    return Story(failure, tuple(steps), window, returned_ns)


def _reporter_steps(reporter: ReporterTrack, words: Words) -> Iterator[Step]:
    """What the reporter had done by then, as far as it bears on the window or the state."""
    asked, start, window = reporter.asked, reporter.pass_start, reporter.window
    last = reporter.last_window
    if window is None and last is not None and last.drained is not None:
        yield Step(
            last.drained.time_ns,
            "drained",
            f"the last window before is over: request {last.request}, {pages_words(last.pages)} "
            f"isolated for {span(last.length_ns(0))}, are back",
        )
    if asked is not None:
        yield Step(asked.time_ns, "notify", _asked_words(asked, words))
    if window is None:
        if reporter.waiting is not None:
            yield Step(reporter.waiting.time_ns, "waiting", _waiting_words(reporter, words))
        return
    if start is not None:
        yield Step(start.time_ns, "pass-start", f"pass {start.fields['pass']} starts")
    if reporter.windows_of_pass_count:
        count, ended = reporter.windows_of_pass_count, reporter.windows_of_pass[-1]
        said = (
            f"{count} window{'' if count == 1 else 's'} of this pass "
            f"{'is' if count == 1 else 'are'} over, the last of "
            f"{pages_words(ended.pages)}, {span(ended.length_ns(0))} long"
        )
        yield Step(ended.drained.time_ns if ended.drained else 0, "drained", said)
    for event in window.lists[:LISTS_TOLD_MAX]:
        yield Step(event.time_ns, "isolated", _isolated_words(event, words))
    if len(window.lists) > LISTS_TOLD_MAX:
        more = window.lists[LISTS_TOLD_MAX:]
        pages = sum(event.fields["pages"] for event in more)
        said = f"{len(more)} more lists: {pages_words(pages)} isolated"
        yield Step(more[-1].time_ns, "isolated", said)
    if window.report is not None:
        fields = window.report.fields
        yield Step(
            window.report.time_ns,
            "report",
            f"request {fields['request']} goes to the host: {fields['entries']} blocks, "
            f"{pages_words(fields['pages'])}; {fields['free_pages']:,} pages stay free in "
            f"{words.zone(window.zone)}",
        )


def _asked_words(asked: RunEvent, words: Words) -> str:
    fields = asked.fields
    if fields["order"] < 0:
        return "the reporting device is registered, which asks for a pass"
    said = f"{words.worker(asked.worker)} frees a block of order {fields['order']}"
    if fields["state"] == NOTIFY_ACTIVE:
        return f"{said} while a pass is at work: another pass is asked for, after it"
    due_ns = words.record.pass_due_ns(asked.time_ns)
    due = "" if due_ns is None else f", due in {span(due_ns - asked.time_ns)}"
    return f"{said} (pfn {fields['pfn']:#x}): a pass is asked for{due}"


def _waiting_words(reporter: ReporterTrack, words: Words) -> str:
    fields: dict[str, Any] = {} if reporter.waiting is None else reporter.waiting.fields
    return (
        f"the pass waits: {fields['free_pages']:,} pages free in {words.zone(fields['zone'])}, "
        f"{fields['floor_pages']:,} must stay free"
    )


def _isolated_words(event: RunEvent, words: Words) -> str:
    fields = event.fields
    entries = fields["entries"]
    return (
        f"{entries} block{'' if entries == 1 else 's'} of order {fields['order']} isolated, "
        f"{pages_words(fields['pages'])}; {fields['free_pages']:,} pages left free in "
        f"{words.zone(fields['zone'])}"
    )


def _state(fields: dict[str, Any]) -> str:
    margin = fields.get("margin_pages")
    said = f"{fields['free_pages']:,} free, {fields['isolated_pages']:,} isolated"
    return said if margin is None else f"{said}, margin {margin:,}"


def _own_steps(
    telling: _Telling,
    bursts: dict[tuple[int, int], RunEvent],
    stall: RunEvent | None,
    event: RunEvent,
) -> Iterator[Step]:
    """The failing request's own way, up to the failure."""
    failure, words = telling.failure, telling.words
    who = words.worker(failure.worker)
    for (worker, load), begin in bursts.items():
        if worker == failure.worker and failure.load in {None, load}:
            telling.burst_over = False
            yield Step(
                begin.time_ns,
                "burst-begin",
                f"{words.load(load)} on {who} begins a burst of "
                f"{pages_words(begin.fields['pages'])}: {_state(begin.fields)}",
            )
    asked = words.request(failure)
    if stall is not None and (event is stall or stall.time_ns == failure.stalled_ns):
        said = (
            f"{who}, {asked}: refused at the min watermark, has to reclaim by itself: "
            f"{_state(stall.fields)}"
        )
        yield Step(stall.time_ns, "stalled", said, failure=event is stall)
    if event is not stall:
        ended = "calls the OOM killer" if event.kind == "oom" else "gets nothing"
        said = f"{who}, {asked}: the last attempt fails, {ended}: {_state(event.fields)}"
        yield Step(event.time_ns, event.kind, said, failure=True)


def _after(telling: _Telling, reporter: ReporterTrack, event: RunEvent) -> bool:
    """Take in an event after the failure; False: the story is over."""
    failure, words, fields = telling.failure, telling.words, event.fields
    window = telling.window
    if (
        window is None
        and (telling.burst_over or event.time_ns - failure.time_ns > AFTER_NS_MAX)
        and event.kind != "oom-kill"
    ):
        return False
    open_before = reporter.window is not None
    ended = reporter.see(event)
    if window is not None and open_before:
        telling.window = ended or reporter.window or window
    own = event.worker == failure.worker
    if event.kind == "oom-kill" and own and failure.victim is not None:
        said = f"{words.load(fields['load'])} is killed, which had {pages_words(fields['pages'])}"
        if not any(step.kind == "oom-kill" for step in telling.steps):
            telling.steps.append(Step(event.time_ns, event.kind, said))
    elif event.kind == "burst-end" and own and failure.load in {None, fields["load"]}:
        if not telling.burst_over:
            telling.burst_over = True
            said = "the killed burst's pages are back" if fields["killed"] else "the burst ends"
            telling.steps.append(Step(event.time_ns, event.kind, f"{said}: {_state(fields)}"))
    elif event.kind == "answer" and open_before:
        error = f" with error {fields['error']}" if fields["error"] else ""
        after = span(fields["window_ns"])
        said = f"the host answers request {fields['request']}{error}, {after} after the first"
        telling.steps.append(Step(event.time_ns, event.kind, f"{said} isolation"))
    elif ended is not None and window is not None:
        said = (
            f"{span(event.time_ns - failure.time_ns)} after the failure "
            f"{pages_words(fields['pages'])} are back: {fields['free_pages']:,} pages free in "
            f"{words.zone(window.zone)}"
        )
        telling.steps.append(Step(event.time_ns, event.kind, said))
    over = window is None or reporter.window is None
    return not (over and telling.burst_over)
