"""The findings of a fidelity check as a page: what is exact, what is not, and by how much.

`docs/fidelity.md` is this page for the committed recordings, so it says nothing that was not found
by the check, and a test compares the two. It holds no times, places of a machine or versions of
today: the same recordings and the same model make the same bytes.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pagesoak.study.fidelity_text import (
    answer_of,
    closing_line,
    figure_text,
    figures_of,
    is_table,
    words_of,
)

_INTRODUCTION = """\
# How far the model predicts a real kernel

Recordings of a real Linux guest, held to the model: the model is given what a recording says was
*asked*, decides what comes of it, and is compared with what the recording says came of it. This
page was written by the command itself:

    pagesoak fidelity {arguments}

Recordings of your own are checked the same way; their formats are described in
`tests/recordings/README.md`."""

_KINDS = {
    "trace": (
        "Workload traces",
        """\
Given: the exact free lists at one instant, then every request (order, migratetype, GFP flags; the
pages that are freed, in their order), and when a reporting pass started, reported and got its
answer. Predicted: the page that each allocation got, whichever zone it came from; the blocks of
each report call, in order; and at each later exact snapshot all free lists in order, Reported
flags, per-CPU lists and page-block types. What precedes the first snapshot is not checked.""",
    ),
    "timeline": (
        "Timelines of an idle guest",
        """\
Given: the exact free lists when a reporting device was registered, and nothing after that.
Predicted: every report call to the end, which pass it belongs to, its entries in scatterlist
order, the free pages beside it; when each pass starts, by the kernel's timer wheel (late: beyond
2 s); how long a call takes whose device sleeps; and the lists of reportable orders at the end,
with their flags. "To the very tick": the phase of the wheel is read off the first start, and every
later one follows from its cause.

Assumed: the idle guest takes and frees no block of a reportable order before the last pass ends.
The recordings do not say what it did. What it takes afterwards shows as a difference in the lists
at the end, which is therefore not held against the model.""",
    ),
    "balloon": (
        "The real balloon",
        """\
Given: the trace of the reporting functions. Where the guest was idle, the calls are predicted from
the exact lists before the driver was loaded. Under a load whose page events were not traced nobody
can say what was free. There every call is held to the rules of a pass (zones and orders ascend, a
scatterlist is full unless it is the last of its zone, what is isolated is what is reported and
what comes back, in scatterlist order), and the start of every pass to its cause: a freed block, or
the end of the pass before it.""",
    ),
    "oom": (
        "How often the OOM killer came",
        """\
Given: the law of the load (free memory, bursts, holding and pausing), the boot's free lists, the
kernel, how long the device's callback sleeps, and how long a page takes to touch, read from bursts
that were not killed. Predicted: how many bursts are killed in as many runs of that length. From
low to high is where 95 of 100 repetitions of the recording would fall, found by resampling whole
simulated runs, because kills cluster; a row is consistent when the recorded kills lie inside. No
constant is fitted to such a table.

Where few kills are expected, repetitions differ too much for that to tell anything. There (pauses:
recorded) the pauses that the recorded loads made are given as well, one by one, each taken to be
known up to a bucket of the timer wheel, and only what the kernel made of them is predicted.""",
    ),
}
_OTHER_KIND = ("Other recordings", "")

_LIMITS = """\
## Where a difference can come from

- **Events that leave no trace.** Kernel stacks at a fork come from a bulk allocation that no event
  reports; pages freed in an interrupt, while the interrupted code holds the lock of the per-CPU
  lists, pass them by. Such a miss is named as one, with its line.
- **kswapd and compaction.** Their own events say when they are active; what they do to free lists
  and per-CPU lists is predicted, what they find on the LRU lists is not in a trace.
- **An idle guest is not quite idle.** It takes and frees some pages between two instants.
- **A busy guest serves a timer late,** so a pass can start later than its timer fired. And a block
  freed just after a tick, with interrupts off, may find that tick not yet counted: where that
  crosses the border of a bucket, the pass starts a bucket (32 ms) before its prediction.

## What this does not show

The recordings that come with the project show one CPU, one node, no zone Normal, and kernel 6.1.
More CPUs, nodes and zones, and kernel 6.12, are modelled from the source and checked by
constructed cases. How long a host takes to serve a report is the host's doing and never predicted.
What is not modelled at all is listed in `docs/model.md`, section 13."""

Document = Mapping[str, Any]


def page_text(documents: Sequence[Document], arguments: Sequence[str]) -> str:
    """The page for the findings of some recordings; `arguments` are what the command was given."""
    return "\n".join(_lines(documents, arguments)) + "\n"


def _lines(documents: Sequence[Document], arguments: Sequence[str]) -> Iterator[str]:
    names = _names(documents)
    yield _INTRODUCTION.format(arguments=shlex.join(arguments))
    yield from ("", "## The answer", "", f"{closing_line(documents)}.", "")
    yield from _table(
        ["recording", "kind", "kernel", "answer"],
        [
            [name, found["kind"], found["kernel"] or "not named", answer_of(found)]
            for name, found in zip(names, documents, strict=True)
        ],
    )
    order = [*_KINDS, *sorted({found["kind"] for found in documents} - _KINDS.keys())]
    for kind in order:
        chosen = {
            name: found
            for name, found in zip(names, documents, strict=True)
            if found["kind"] == kind
        }
        if chosen:
            yield from _kind_lines(kind, chosen)
    yield from ("", _LIMITS)


def _names(documents: Sequence[Document]) -> list[str]:
    """The recordings' paths without what they all begin with."""
    paths = [Path(os.path.normpath(found["path"])) for found in documents]
    if len({path.is_absolute() for path in paths}) > 1:
        return [str(path) for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [os.path.relpath(path, common or ".") for path in paths]


def _kind_lines(kind: str, documents: Mapping[str, Document]) -> Iterator[str]:
    title, text = _KINDS.get(kind, _OTHER_KIND)
    yield from ("", f"## {title}", "")
    if text:
        yield from (text, "")
    yield from _figures_table(documents)
    for name, found in documents.items():
        for figure, value in figures_of(found).items():
            if is_table(value):
                yield from ("", f"{name}, {words_of(figure)}:", "")
                columns = list(value[0])
                rows = [[figure_text(row.get(column)) for column in columns] for row in value]
                yield from _table([words_of(column) for column in columns], rows)
    remarks = _remarks(documents)
    if remarks:
        yield ""
        yield from remarks


def _figures_table(documents: Mapping[str, Document]) -> Iterator[str]:
    """One column for each recording, one row for each figure."""
    figures = {name: figures_of(found) for name, found in documents.items()}
    rows = []
    for key in dict.fromkeys(key for found in figures.values() for key in found):
        values = [found.get(key) for found in figures.values()]
        if any(is_table(value) for value in values):
            continue
        cells = [figure_text(value) if value not in (None, [], {}) else "" for value in values]
        if any(cells):
            rows.append([words_of(key), *cells])
    demands = dict.fromkeys(
        demand["text"] for found in documents.values() for demand in found["demands"]
    )
    rows += [[text, *(_held(found, text) for found in documents.values())] for text in demands]
    yield from _table(["", *documents], rows)


def _held(found: Document, text: str) -> str:
    """Whether a demand holds; "" where it was not made."""
    answers = [demand["holds"] for demand in found["demands"] if demand["text"] == text]
    return "" if not answers else "**holds**" if all(answers) else "**does not hold**"


def _remarks(documents: Mapping[str, Document]) -> list[str]:
    """Differences, what was not checked, faults, notes: a list item each, those alike together."""
    names: dict[str, list[str]] = {}
    for name, found in documents.items():
        for remark in _remarks_of(found):
            names.setdefault(remark, []).append(name)
    return [f"- {', '.join(of)}: {remark}" for remark, of in names.items()]


def _remarks_of(found: Document) -> Iterator[str]:
    for divergence in found["divergences"]:
        doing = f"; {divergence['doing']}" if divergence["doing"] else ""
        where = _in_recording(divergence["where"], found)
        told = f"recorded {divergence['expected']}, predicted {divergence['got']}{doing}"
        yield f"difference at `{where}`: {told}"
    for left_out in found["not_checked"]:
        number = left_out.get("number", 1)
        count = f"{number:,} " if number != 1 else ""
        yield f"not checked: {count}{left_out['what']}: {left_out['reason']}"
    for fault in found["faults"]:
        yield f"fault at `{_in_recording(fault['place'], found)}`: {fault['message']}"
    yield from found["notes"]


def _in_recording(place: str, found: Document) -> str:
    """A place inside a recording, without the path of the recording."""
    return place.removeprefix(found["path"]).lstrip("/") or "."


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(heading)
    yield _row(["---"] * len(heading))
    yield from (_row(row) for row in rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
