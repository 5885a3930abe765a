"""The events of a trace in columns, with who was running: what a check of the model drives on.

The trace reader gives one record per event; a check needs besides them the task and the state of
interrupts, which stand before the CPU's number, and needs to look ahead: a free that goes through
a list has two events, mm_page_free when it is prepared and mm_page_free_batched when it happens,
and only the second one counts. So everything is read first, into arrays.

A trace that stops being readable (cut off, damaged, a line that is none) keeps what stands before;
the allocations behind are counted from the text alone, so that they can be named as not checked.
"""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.trace import parse_trace
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile
from pagesoak.study.fidelity_result import Fault

IntArray: TypeAlias = "array[int]"

PREPARED = -1
"""Kind of an mm_page_free whose mm_page_free_batched follows: nothing has happened yet."""
KSWAPD_WAKE = 100
"""mm_vmscan_kswapd_wake: a run of kswapd begins."""
KSWAPD_SLEEP = 101
COMPACTION_BEGIN = 102
COMPACTION_END = 103
DIRECT_RECLAIM_BEGIN = 104
DIRECT_RECLAIM_END = 105

PASS = frozenset({kinds.PROCESS, kinds.PROCESS_RET})
FREES = frozenset({kinds.MM_PAGE_FREE, kinds.MM_PAGE_FREE_BATCHED})
RECLAIM = frozenset(
    {
        KSWAPD_WAKE,
        DIRECT_RECLAIM_BEGIN,
        DIRECT_RECLAIM_END,
        COMPACTION_BEGIN,
        COMPACTION_END,
    }
)
NO_REQUEST = frozenset(
    {
        kinds.MM_PAGE_ALLOC_ZONE_LOCKED,
        kinds.MM_PAGE_PCPU_DRAIN,
        kinds.MM_PAGE_ALLOC_EXTFRAG,
        kinds.ISOLATE_RET,
        kinds.PUTBACK,
        kinds.NOTIFY,
    }
)
"""Results, not requests: never looked at."""

_KIND_OF_OTHER = {
    "mm_vmscan_kswapd_wake": KSWAPD_WAKE,
    "mm_vmscan_kswapd_sleep": KSWAPD_SLEEP,
    "mm_compaction_begin": COMPACTION_BEGIN,
    "mm_compaction_end": COMPACTION_END,
    "mm_vmscan_direct_reclaim_begin": DIRECT_RECLAIM_BEGIN,
    "mm_vmscan_direct_reclaim_end": DIRECT_RECLAIM_END,
}
_ALLOCATION = ": mm_page_alloc: "
_INTERRUPT = frozenset("hHsZz")
"""In the third place of the state column: hard or soft interrupt."""
INTERRUPT_COLUMN = 7
"""Behind the bracket of the CPU: three digits, bracket, space, two other states."""


@dataclass
class TraceColumns:
    """One entry per event in each array; see `trace_record.TraceRecord`.

    `task` is an index into `tasks` (name and pid as printed); `interrupt` is 1 for what happened
    in an interrupt.
    """

    kind: IntArray = field(default_factory=lambda: array("h"))
    time_ns: IntArray = field(default_factory=lambda: array("q"))
    line: IntArray = field(default_factory=lambda: array("l"))
    pfn: IntArray = field(default_factory=lambda: array("q"))
    order: IntArray = field(default_factory=lambda: array("b"))
    migratetype: IntArray = field(default_factory=lambda: array("b"))
    gfp: IntArray = field(default_factory=lambda: array("l"))
    value: IntArray = field(default_factory=lambda: array("q"))
    task: IntArray = field(default_factory=lambda: array("l"))
    interrupt: IntArray = field(default_factory=lambda: array("b"))
    tasks: list[str] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    """By index: the fields of the rarer events."""
    interrupted: dict[int, int] = field(default_factory=dict)
    """By index of a free in an interrupt that came in the middle of freeing a list: the page of
    that list which was freed last. Its pageset's lock is held all the while.
    """
    cpus: set[int] = field(default_factory=set)
    fault: Fault | None = None
    unread_allocations: int = 0
    """Allocations that the text names behind the fault."""

    def task_ids(self, prefix: str) -> frozenset[int]:
        """The tasks whose name begins so."""
        return frozenset(i for i, name in enumerate(self.tasks) if name.startswith(prefix))


class _Remembering:
    """Lines that are handed on; the last one stays at hand."""

    def __init__(self, lines: TextFile) -> None:
        self._lines = iter(lines)
        self.text = ""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        for line in self._lines:
            self.text = line[1]
            yield line


def read_columns(path: Path) -> TraceColumns:
    """All events of a trace; never raises for its contents: `fault` says what was wrong."""
    columns = TraceColumns()
    lines = _Remembering(TextFile(path))
    try:
        _fill(columns, lines, path)
    except InputError as error:
        columns.fault = Fault.of(error)
        columns.unread_allocations = _count_allocations(lines)
    if 1 in columns.interrupt:
        _mark_interrupted(columns)
    return columns


def _count_allocations(lines: _Remembering) -> int:
    """Allocations from the line that could not be read on, as far as there is text."""
    found = int(_ALLOCATION in lines.text)
    with suppress(InputError):
        found += sum(_ALLOCATION in text for _, text in lines)
    return found


def _fill(columns: TraceColumns, lines: _Remembering, path: Path) -> None:
    task_of: dict[str, int] = {}
    task_of_name: dict[str, int] = {}
    prepared: dict[int, int] = {}
    kind_column = columns.kind
    add = (
        columns.kind.append,
        columns.time_ns.append,
        columns.line.append,
        columns.pfn.append,
        columns.order.append,
        columns.migratetype.append,
        columns.gfp.append,
        columns.value.append,
        columns.task.append,
        columns.interrupt.append,
    )
    for index, record in enumerate(parse_trace(lines, str(path))):
        kind, time_ns, cpu, line, pfn, order, migratetype, gfp, value, name, _ = record
        if kind == kinds.MM_PAGE_FREE:
            prepared[pfn] = index
        elif kind == kinds.MM_PAGE_FREE_BATCHED:
            earlier = prepared.pop(pfn, None)
            if earlier is not None:
                kind_column[earlier] = PREPARED
                order = columns.order[earlier]
        elif kind == kinds.MM_PAGE_ALLOC:
            prepared.pop(pfn, None)
        elif kind == kinds.OTHER:
            kind = _KIND_OF_OTHER.get(name, kinds.OTHER)
            columns.texts[index] = record.text
        elif kind == kinds.TRACING_MARK_WRITE:
            columns.texts[index] = record.text
        before, _, after = lines.text.partition("[")
        task = task_of.get(before)
        if task is None:
            task = task_of[before] = _task_number(before, columns, task_of_name)
        row = (
            kind,
            time_ns,
            line,
            pfn,
            order,
            migratetype,
            gfp,
            value,
            task,
            after[INTERRUPT_COLUMN : INTERRUPT_COLUMN + 1] in _INTERRUPT,
        )
        for append, item in zip(add, row, strict=True):
            append(item)
        columns.cpus.add(cpu)


def _mark_interrupted(columns: TraceColumns) -> None:
    """Find the frees in interrupts that came in the middle of freeing a list."""
    left = 0
    last = -1
    for index, kind in enumerate(columns.kind):
        if columns.interrupt[index]:
            if kind == kinds.MM_PAGE_FREE and left and last >= 0:
                columns.interrupted[index] = last
        elif kind == PREPARED:
            left += 1
        elif kind == kinds.MM_PAGE_FREE_BATCHED:
            left = max(left - 1, 0)
            last = columns.pfn[index] if left else -1


def _task_number(before: str, columns: TraceColumns, task_of_name: dict[str, int]) -> int:
    """The number of the task whose columns these are."""
    name = before.strip()
    number = task_of_name.get(name)
    if number is None:
        number = task_of_name[name] = len(columns.tasks)
        columns.tasks.append(name)
    return number
