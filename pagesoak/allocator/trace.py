"""Streaming reader of page-allocator traces.

Reads what `trace` and `trace_pipe` of tracefs, `trace-cmd report` and `perf script` print, plain
or gzip. A recorded trace is hundreds of thousands of lines, nearly all of them five kinds of
event: one compiled pattern takes those; `pagesoak.allocator.trace_line` takes everything else.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.gfp import parse_packed_gfp
from pagesoak.allocator.trace_line import parse_line
from pagesoak.allocator.trace_record import FAILED_PFN, TraceRecord
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import NumberedLines, TextFile

# A subset of the lines that parse_line takes, with the same meaning: no bracket in the task's
# name, time in microseconds, numbers within their limits, nothing after the fields.
_HOT = re.compile(
    r"[^\[]{1,80}[- /][0-9]{1,10} +(?:\([ 0-9-]+\) +)?"  # task, pid, perhaps tgid
    r"\[([0-9]{3,5})\] +(?:[^\s:]{4,8} +)?([0-9]{1,9})\.([0-9]{6}): +"
    r"(?:kmem:)?mm_page_(alloc|free|free_batched|alloc_zone_locked|pcpu_drain): +"
    r"page=\S+ pfn=(0x[0-9a-f]{1,10}|[0-9]{1,12}) order=([0-9]|10)"
    r"(?: migratetype=([0-5])(?: gfp_flags=(\S+)| percpu_refill=([01]))?)?"
)
_ENTRIES = re.compile(r"# entries-in-buffer/entries-written: ([0-9]{1,18})/[0-9]+ .*")


def read_trace(path: str | Path) -> Iterator[TraceRecord]:
    """The events of a trace file in its order. Raises `InputError` with file and line.

    Refused besides lines that cannot be read: a file cut off (inside a line, or after fewer
    events than its heading promises), time that goes backwards on one CPU.
    """
    text = TextFile(path)
    return parse_trace(text, text.name)


def parse_trace(lines: NumberedLines, file: str) -> Iterator[TraceRecord]:
    """As `read_trace`, from lines; `file` names them in errors."""
    gfp_by_text: dict[str, int] = {}
    last_ns: dict[int, int] = {}
    promised = 0
    events = 0
    number = 0
    match_hot = _HOT.fullmatch
    for number, text in lines:
        match = match_hot(text)
        record = None if match is None else _hot_record(match, number, gfp_by_text)
        if record is None:
            record = parse_line(text, number, file)
            if record is None:
                if heading := _ENTRIES.fullmatch(text):
                    promised += int(heading[1])
                continue
            if record.kind == kinds.LOST:
                yield record._replace(time_ns=last_ns.get(record.cpu, 0))
                continue
        time_ns = record.time_ns
        cpu = record.cpu
        if time_ns < last_ns.get(cpu, 0):
            raise InputError(f"time goes backwards on cpu {cpu}", file=file, line=number)
        last_ns[cpu] = time_ns
        events += 1
        yield record
    if events < promised:
        message = f"cut off: the heading promises {promised} events, {events} are there"
        raise InputError(message, file=file, line=number + 1)


def _hot_record(
    match: re.Match[str], line: int, gfp_by_text: dict[str, int]
) -> TraceRecord | None:
    """The record of a common event; None where the thorough way has to decide."""
    cpu, seconds, micros, name, pfn_text, order, migratetype, flags, refill = match.groups()
    pfn = int(pfn_text, 16) if pfn_text[:2] == "0x" else int(pfn_text)
    gfp = value = 0
    if name == "alloc":
        if flags is None:
            return None
        known = gfp_by_text.get(flags)
        if known is None:
            try:
                known = gfp_by_text[flags] = parse_packed_gfp(flags)
            except InputError:
                return None
        kind, gfp, pfn = kinds.MM_PAGE_ALLOC, known, pfn or FAILED_PFN
    elif name == "free":
        kind = kinds.MM_PAGE_FREE
    elif name == "free_batched":
        kind = kinds.MM_PAGE_FREE_BATCHED
    elif name == "pcpu_drain":
        if migratetype is None:
            return None
        kind = kinds.MM_PAGE_PCPU_DRAIN
    else:
        if refill is None:
            return None
        kind, value = kinds.MM_PAGE_ALLOC_ZONE_LOCKED, int(refill)
    # All eleven fields at once: half the time of naming them.
    return TraceRecord._make(
        (
            kind,
            int(seconds + micros) * 1000,
            int(cpu),
            line,
            pfn,
            int(order),
            0 if migratetype is None else int(migratetype),
            gfp,
            value,
            "",
            "",
        )
    )
