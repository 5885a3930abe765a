"""Recorded report calls beside predicted ones: same pass, same entries in the same order.

Calls are matched by their number, so that a line that cannot be read costs one call and not all
behind it. Whether a call begins a new pass is seen by the time since the call before it.
"""

from itertools import pairwise
from typing import Any, NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.base.units import NS_PER_MS, NS_PER_SECOND
from pagesoak.reporter.passes import DELAY_NS
from pagesoak.study.fidelity_result import DIVERGENCES_MAX, Divergence, NotChecked
from pagesoak.study.predicted_reports import Block, PredictedCall, PredictedPass
from pagesoak.study.reports_csv import ReportCall

NEW_PASS_NS = NS_PER_SECOND
"""Calls further apart belong to two passes: a pass comes 2 s after the last one's end, calls of
one follow each other within milliseconds.
"""
OVERDUE_NS = DELAY_NS + 100 * NS_PER_MS
"""A pass that is due has begun by then, even on a busy machine."""
AFTER_IDLE = "the device was idle: what the guest freed to wake it is not recorded"


class Step(NamedTuple):
    """A predicted call and the pass (from 1) it belongs to."""

    pass_number: int
    call: PredictedCall


class CallsChecked(NamedTuple):
    """What comes of the comparison."""

    figures: dict[str, Any]
    divergences: tuple[Divergence, ...]
    not_checked: tuple[NotChecked, ...]


def steps_of(passes: list[PredictedPass]) -> list[Step]:
    """Predicted calls in order."""
    return [
        Step(number, call) for number, made in enumerate(passes, start=1) for call in made.calls
    ]


def begins_pass(before: ReportCall, call: ReportCall) -> bool:
    """Whether a call is another pass's than the one before it."""
    return call.start_ns - before.end_ns >= NEW_PASS_NS


def compare_calls(
    calls: tuple[ReportCall, ...],
    passes: list[PredictedPass],
    *,
    file: str,
    unread: int,
    ended_ns: int | None,
) -> CallsChecked:
    """`unread`: calls that are in the file and could not be read; `ended_ns`: when the recording
    ended, None when it is not known (or was cut off).
    """
    steps = steps_of(passes)
    exact = 0
    compared = 0
    free_exact = 0
    differences = []
    divergences = []
    late_calls = 0
    before: ReportCall | None = None
    for call in calls:
        if call.number >= len(steps):
            late_calls += 1
            continue
        step = steps[call.number]
        wrong = _difference(call, before, steps)
        exact += wrong is None
        if wrong is not None:
            doing = f"pass {step.pass_number}, call {call.number}"
            divergences.append(Divergence(f"{file}:{call.line}", *wrong, doing))
        before = call
        compared += 1
        if call.free_pages >= 0:
            difference = call.free_pages - step.call.free_pages
            free_exact += difference == 0
            differences.append(abs(difference))
    missing = 0 if unread else _missing(calls, steps, ended_ns)
    if missing:
        step = steps[-missing]
        got = f"{missing} more, the first with {len(step.call.entries)} entries"
        doing = f"pass {step.pass_number}, call {len(steps) - missing}"
        divergences.append(Divergence(file, "no further call", got, doing))
    figures: dict[str, Any] = {
        "scatterlists": {
            "exact": exact,
            "total": compared + missing,
            "not_checked": late_calls + unread,
        },
        "passes": {"predicted": len(passes), "recorded": _passes(calls)},
    }
    if differences:
        figures["free_pages"] = {
            "exact": free_exact,
            "total": len(differences),
            "largest_difference_pages": max(differences),
        }
    not_checked = []
    if late_calls:
        not_checked.append(NotChecked("report calls", file, AFTER_IDLE, late_calls))
    if unread:
        not_checked.append(NotChecked("report calls", file, "cannot be read", unread))
    return CallsChecked(figures, tuple(divergences[:DIVERGENCES_MAX]), tuple(not_checked))


def _passes(calls: tuple[ReportCall, ...]) -> int:
    return sum(begins_pass(*pair) for pair in pairwise(calls)) + bool(calls)


def _missing(calls: tuple[ReportCall, ...], steps: list[Step], ended_ns: int | None) -> int:
    """Predicted calls that the recording would hold if they had been made."""
    made = calls[-1].number + 1 if calls else 0
    left = steps[made:]
    if ended_ns is None or not left or not calls:
        return 0
    due_ns = calls[-1].end_ns
    missing = 0
    for before, step in pairwise(steps[made - 1 :]):
        due_ns += OVERDUE_NS if step.pass_number != before.pass_number else NEW_PASS_NS
        missing += due_ns < ended_ns
    return missing


def _difference(
    call: ReportCall, before: ReportCall | None, steps: list[Step]
) -> tuple[str, str] | None:
    """What the recording says and what was predicted, where they differ."""
    step = steps[call.number]
    if before is not None and before.number == call.number - 1:
        recorded = begins_pass(before, call)
        if recorded != (step.pass_number != steps[before.number].pass_number):
            begins = ("goes on with the pass", "begins a pass")
            return f"it {begins[recorded]}", f"it {begins[not recorded]}"
    return entries_difference(call.entries, step.call.entries)


def entries_difference(
    recorded: tuple[Block, ...], predicted: tuple[Block, ...]
) -> tuple[str, str] | None:
    """The first entry that differs, or the numbers of entries; None when they are the same."""
    for index, (one, other) in enumerate(zip(recorded, predicted, strict=False)):
        if one != other:
            return f"entry {index} is {block_text(one)}", f"entry {index} is {block_text(other)}"
    if len(recorded) != len(predicted):
        return f"{len(recorded)} entries", f"{len(predicted)} entries"
    return None


def block_text(block: Block) -> str:
    """A block as the recordings write it: pfn in hexadecimal, order."""
    return f"{block[0]:x}/{block[1]}"


def compare_end(
    predicted: FreeListSnapshot, recorded: FreeListSnapshot, order: int, file: str
) -> CallsChecked:
    """The lists of reportable orders at the end: blocks in order, with their Reported flags.

    Not demanded: the guest may have taken some of these blocks after the last pass.
    """
    by_name = {zone.label: zone.free_lists for zone in recorded.zones}
    exact = 0
    total = 0
    divergences = []
    for zone in predicted.zones:
        lists = by_name.get(zone.label, {})
        for key in sorted({*zone.free_lists, *lists}):
            if key[0] < order:
                continue
            total += 1
            ours, theirs = zone.free_lists.get(key, ()), lists.get(key, ())
            exact += ours == theirs
            if ours != theirs:
                doing = (
                    f"{zone.label}, order {key[0]}, type {key[1]}, after the last pass; "
                    "the guest may have taken or freed some"
                )
                sizes = [f"blocks on the list: {len(found)}" for found in (theirs, ours)]
                divergences.append(Divergence(file, sizes[0], sizes[1], doing))
    figures = {"lists_at_end": {"exact": exact, "total": total}}
    return CallsChecked(figures, tuple(divergences), ())
