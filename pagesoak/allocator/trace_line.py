"""One line of a trace in any of the layouts it may be printed in: the thorough way.

The layouts: `trace` and `trace_pipe` of tracefs, `trace-cmd report`, `perf script`:

    wl-131     [000] ...1.     6.401822: mm_page_alloc: page=… pfn=0x9b7b order=0 migratetype=…
    wl-131     [000]     6.401822: mm_page_alloc:        page=… pfn=39803 order=0 migratetype=…
    wl   131 [000]     6.401822:      kmem:mm_page_alloc: page=… pfn=0x9b7b order=0 migratetype=…

The column of the interrupt and preemption state, a column `( tgid)`, microseconds or nanoseconds,
a group before the event's name may each be there or not; a pfn is hexadecimal with 0x (since 5.14)
or decimal. `pagesoak.allocator.trace` has the fast way for the common events.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.gfp import parse_packed_gfp
from pagesoak.allocator.trace_record import (
    FAILED_PFN,
    KIND_BY_NAME,
    LOST_COUNT_UNKNOWN,
    MAX_TRACE_ORDER,
    MAX_TRACE_PFN,
    TraceRecord,
)
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import excerpt

MAX_TRACE_LINE_CHARS = 1 << 16
"""A trace line holds at most a page of text or so; it bounds what the patterns have to look at."""

MAX_TASK_CHARS = 96
"""Task, pid, thread and tgid columns before the CPU; a task's name has at most 16 characters."""

MAX_MIGRATETYPE = 5

STRUCT_PAGE_BYTES = 64
VMEMMAP_BASE_5_LEVEL = 0xFFD4_0000_0000_0000
VMEMMAP_BASE_4_LEVEL = 0xFFFF_EA00_0000_0000
"""Where the array of struct page begins on x86-64 without address randomization, by the depth of
the page tables. The isolate and putback probes print the address of a struct page.
"""

_EVENT = re.compile(
    r" ?\[([0-9]{3,5})\] +(?:[^\s:]{4,8} +)?"  # CPU; state of interrupts and preemption
    r"([0-9]{1,9})\.([0-9]{9}|[0-9]{6}): +"  # seconds since boot
    r"(?:([\w-]+):)?(\w+):(?: (.*))?"  # group, name, fields
)
_TASK = re.compile(r".*[-\s/][0-9]{1,10} *(?:\([ 0-9-]+\) *)?")
_FIELD = re.compile(r"(?<!\w)(\w{1,64})=(\S+)")
_LOST = re.compile(r"CPU:([0-9]{1,5}) \[(?:LOST )?(?:([0-9]{1,18}) )?EVENTS(?: DROPPED)?\]")
_PERF_LOST = re.compile(r"(?:.*: )?PERF_RECORD_LOST(?:_SAMPLES)?(?: +lost[ =]?([0-9]{1,18}))?.*")
_NO_EVENT = re.compile(
    r"\s*"
    r"|version = [0-9]+|cpus=[0-9]+|CPU [0-9]+ is empty"  # the heading of trace-cmd report
    r"| => .*|.*: <(?:user )?stack trace>"  # a call chain by the kernel
    r"|\s+[0-9a-f]{4,16} .*"  # a call chain by perf
)
_NUMBER = re.compile(r"-?[0-9]{1,18}|0x[0-9a-f]{1,16}")


def parse_line(text: str, line: int, file: str) -> TraceRecord | None:
    """The record of one line, None for a line that holds no event (headings, comments, stacks).

    A LOST record has time 0: only its neighbours know when. Raises `InputError` with the place.
    """
    if len(text) > MAX_TRACE_LINE_CHARS:
        raise InputError("the line is too long for a trace event", file=file, line=line)
    if text.startswith("#"):
        return None
    if match := _LOST.fullmatch(text):
        return _lost(match[2], int(match[1]), line)
    match = _EVENT.search(text)
    if match is not None and _is_task(text[: match.start()]):
        return _event(match, line, file)
    if match is None and (lost := _PERF_LOST.fullmatch(text)):
        return _lost(lost[1], 0, line)
    if match is None and _NO_EVENT.fullmatch(text):
        return None
    raise InputError(f"not a line of a trace: {excerpt(text)}", file=file, line=line)


def _event(match: re.Match[str], line: int, file: str) -> TraceRecord:
    cpu, seconds, fraction, group, name, rest = match.groups()
    time_ns = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    event = _Event(time_ns, int(cpu), line, file, name, (rest or "").strip())
    if lost := _PERF_LOST.fullmatch(event.text):
        return _lost(lost[1], event.cpu, line)
    if name == "print":  # so trace-cmd and perf name markers; the text begins with a function
        head, colon, tail = event.text.partition(": ")
        return event.record(kinds.TRACING_MARK_WRITE, text=tail if colon else head)
    kind = KIND_BY_NAME.get(name, kinds.OTHER)
    if name.startswith("mm_page") and group not in {None, "kmem"}:
        kind = kinds.OTHER
    return _MAKERS.get(kind, _other)(event)


def _is_task(text: str) -> bool:
    return len(text) <= MAX_TASK_CHARS and _TASK.fullmatch(text) is not None


def _lost(count: str | None, cpu: int, line: int) -> TraceRecord:
    events = LOST_COUNT_UNKNOWN if count is None else int(count)
    return TraceRecord(kinds.LOST, 0, cpu, line, value=events)


@dataclass(frozen=True)
class _Event:
    """The parts every event has, and its fields by name."""

    time_ns: int
    cpu: int
    line: int
    file: str
    name: str
    text: str

    @cached_property
    def fields(self) -> dict[str, str]:
        return dict(_FIELD.findall(self.text))

    def record(self, kind: int, **fields: Any) -> TraceRecord:
        return TraceRecord(kind, self.time_ns, self.cpu, self.line, **fields)

    def error(self, message: str) -> InputError:
        return InputError(f"{self.name}: {message}", file=self.file, line=self.line)

    def has(self, *names: str) -> bool:
        return all(name in self.fields for name in names)

    def number(self, name: str, limit: int) -> int:
        """A field from 0 to a limit."""
        text = self.fields.get(name)
        if text is None:
            raise self.error(f"no {name}= on the line")
        if not _NUMBER.fullmatch(text):
            raise self.error(f"{name}={excerpt(text)} is not a number")
        value = int(text, 16 if text.startswith("0x") else 10)
        if not 0 <= value <= limit:
            raise self.error(f"{name}={text} is out of range (0 to {limit})")
        return value

    def pfn(self) -> int:
        return self.number("pfn", MAX_TRACE_PFN)

    def order(self, name: str = "order") -> int:
        return self.number(name, MAX_TRACE_ORDER)

    def migratetype(self, name: str = "migratetype") -> int:
        return self.number(name, MAX_MIGRATETYPE)


def _alloc(event: _Event) -> TraceRecord:
    flags = event.fields.get("gfp_flags")
    if flags is None:
        raise event.error("no gfp_flags= on the line")
    try:
        gfp = parse_packed_gfp(flags)
    except InputError as fault:
        raise event.error(fault.message) from None
    return event.record(
        kinds.MM_PAGE_ALLOC,
        pfn=event.pfn() or FAILED_PFN,
        order=event.order(),
        migratetype=event.migratetype(),
        gfp=gfp,
    )


def _free(event: _Event) -> TraceRecord:
    return event.record(kinds.MM_PAGE_FREE, pfn=event.pfn(), order=event.order())


def _free_batched(event: _Event) -> TraceRecord:
    order = event.order() if event.has("order") else 0
    return event.record(kinds.MM_PAGE_FREE_BATCHED, pfn=event.pfn(), order=order)


def _zone_locked(event: _Event) -> TraceRecord:
    return event.record(
        kinds.MM_PAGE_ALLOC_ZONE_LOCKED,
        pfn=event.pfn(),
        order=event.order(),
        migratetype=event.migratetype(),
        value=event.number("percpu_refill", 1),
    )


def _pcpu_drain(event: _Event) -> TraceRecord:
    return event.record(
        kinds.MM_PAGE_PCPU_DRAIN,
        pfn=event.pfn(),
        order=event.order(),
        migratetype=event.migratetype(),
    )


def _extfrag(event: _Event) -> TraceRecord:
    return event.record(
        kinds.MM_PAGE_ALLOC_EXTFRAG,
        pfn=event.pfn(),
        order=event.order("alloc_order"),
        migratetype=event.migratetype("alloc_migratetype"),
        value=event.order("fallback_order"),
        text=event.text,
    )


def _page_probe(kind: int) -> Callable[[_Event], TraceRecord]:
    def make(event: _Event) -> TraceRecord:
        if not event.has("page", "order"):
            return _other(event)
        page = event.number("page", (1 << 64) - 1)
        base = VMEMMAP_BASE_4_LEVEL if page >= VMEMMAP_BASE_4_LEVEL else VMEMMAP_BASE_5_LEVEL
        pfn, rest = divmod(page - base, STRUCT_PAGE_BYTES)
        if rest or not 0 <= pfn <= MAX_TRACE_PFN:
            raise event.error(f"page={page:#x} is not the address of a struct page")
        fields = {"pfn": pfn, "order": event.order()}
        if event.has("mt"):
            fields["migratetype"] = event.migratetype("mt")
        return event.record(kind, **fields)

    return make


def _value_probe(kind: int, name: str) -> Callable[[_Event], TraceRecord]:
    def make(event: _Event) -> TraceRecord:
        text = event.fields.get(name, "")
        if not _NUMBER.fullmatch(text):
            return _other(event)
        return event.record(kind, value=int(text, 16 if text.startswith("0x") else 10))

    return make


def _plain(kind: int) -> Callable[[_Event], TraceRecord]:
    def make(event: _Event) -> TraceRecord:
        return event.record(kind)

    return make


def _mark(event: _Event) -> TraceRecord:
    return event.record(kinds.TRACING_MARK_WRITE, text=event.text)


def _other(event: _Event) -> TraceRecord:
    return event.record(kinds.OTHER, name=event.name, text=event.text)


# The probes are named by whoever sets them: one of the same name with other fields is an OTHER.
_MAKERS: Mapping[int, Callable[[_Event], TraceRecord]] = {
    kinds.MM_PAGE_ALLOC: _alloc,
    kinds.MM_PAGE_FREE: _free,
    kinds.MM_PAGE_FREE_BATCHED: _free_batched,
    kinds.MM_PAGE_ALLOC_ZONE_LOCKED: _zone_locked,
    kinds.MM_PAGE_PCPU_DRAIN: _pcpu_drain,
    kinds.MM_PAGE_ALLOC_EXTFRAG: _extfrag,
    kinds.PROCESS: _plain(kinds.PROCESS),
    kinds.PROCESS_RET: _plain(kinds.PROCESS_RET),
    kinds.ISOLATE: _page_probe(kinds.ISOLATE),
    kinds.ISOLATE_RET: _value_probe(kinds.ISOLATE_RET, "ret"),
    kinds.PUTBACK: _page_probe(kinds.PUTBACK),
    kinds.NOTIFY: _plain(kinds.NOTIFY),
    kinds.REPORT: _value_probe(kinds.REPORT, "nents"),
    kinds.REPORT_RET: _value_probe(kinds.REPORT_RET, "ret"),
    kinds.TRUTH_CAPTURE: _plain(kinds.TRUTH_CAPTURE),
    kinds.TRACING_MARK_WRITE: _mark,
}
