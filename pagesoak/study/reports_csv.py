"""The report calls of a stand-in reporting device: `reports.csv`, plain or gzip.

Comments name the registration and the columns; then one line per call:

    # t_register_ns=3509009033 delay_ms=10 delay_us_per_mib=0 lost=0 fake=1
    # seq,t_start_ns,t_end_ns,nents,pages,free_pages_at_start,free_pages_at_end,list of pfn/order …
    0,5524018624,5544019891,2,1536,72987,72987,e000/10 6200/9

A line that cannot be right is a fault and its call is left out; reading goes on behind it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile, excerpt, hex_number, whole_number
from pagesoak.study.fidelity_result import Fault

CAPACITY = 32
"""PAGE_REPORTING_CAPACITY: no call has more entries."""
ORDER_MAX = 10

_SETTING = re.compile(r"(\w+)=(-?[0-9]{1,18})(?!\S)")
_FIELDS = ("seq", "t_start_ns", "t_end_ns", "nents", "pages", "free_pages_at_start")
_ERROR_NAMES = ("ret", "error")
"""Names of a column with what the call returned; 0 without one."""

Block = tuple[int, int]
"""First page and order."""


class ReportCall(NamedTuple):
    """One call: times in ns of the guest's clock, entries in scatterlist order."""

    number: int
    line: int
    start_ns: int
    end_ns: int
    entries: tuple[Block, ...]
    free_pages: int
    """NR_FREE_PAGES of all zones when it began; -1 when it is not known."""
    error: int
    """What the device answered: 0, or an errno."""


class ReportLog(NamedTuple):
    """All calls that could be read, in order; settings by name, -1 where the file names none."""

    calls: tuple[ReportCall, ...]
    registered_ns: int
    delay_ms: int
    delay_us_per_mib: int
    lost: int
    """Calls that the device could not note."""
    unread: int
    """Lines of calls that could not be read."""
    faults: tuple[Fault, ...]


def read_report_log(path: Path) -> ReportLog:
    """Read the calls. Raises InputError when the file cannot be read at all."""
    text = TextFile(path)
    settings: dict[str, int] = {}
    columns = [*_FIELDS, "free_pages_at_end", "entries"]
    calls: list[ReportCall] = []
    faults: list[Fault] = []
    unread = 0
    lines = iter(text)
    while True:
        try:
            number, line = next(lines)
        except StopIteration:
            break
        except InputError as error:
            if error.line is None:
                raise
            faults.append(Fault.of(error))
            unread += 1
            break
        if line.startswith("#"):
            settings |= {name: int(value) for name, value in _SETTING.findall(line)}
            if "lost=" in line and settings.get("lost"):
                message = f"the device lost {settings['lost']} calls"
                faults.append(Fault(f"{text.name}:{number}", message))
            if line.startswith("# seq,"):
                columns = line.removeprefix("# ").split(",")
            continue
        try:
            call = _call(line, number, text.name, columns)
            _check_sequence(call, calls, text.name)
        except InputError as error:
            faults.append(Fault.of(error))
            unread += 1
        else:
            calls.append(call)
    return ReportLog(
        tuple(calls),
        settings.get("t_register_ns", -1),
        settings.get("delay_ms", -1),
        settings.get("delay_us_per_mib", -1),
        settings.get("lost", 0),
        unread,
        tuple(faults),
    )


def _call(line: str, number: int, file: str, columns: list[str]) -> ReportCall:
    fields = line.split(",")
    if len(fields) != len(columns):
        message = f"expected {len(columns)} fields, found {len(fields)}: {excerpt(line)}"
        raise InputError(message, file=file, line=number)
    named = dict(zip(columns, fields, strict=True))
    missing = [name for name in _FIELDS if name not in named]
    if missing:
        raise InputError(f"no column {missing[0]}", file=file, line=number)
    values = [whole_number(named[name], name, file=file, line=number) for name in _FIELDS]
    seq, start_ns, end_ns, entry_count, pages, free_pages = values
    entries = tuple(_entries(fields[-1], file, number))
    error = next((named[name] for name in _ERROR_NAMES if name in named), "0")
    for holds, message in (
        (len(entries) == entry_count, f"nents is {entry_count}, {len(entries)} are listed"),
        (1 <= len(entries) <= CAPACITY, f"a call of {len(entries)} entries"),
        (
            pages == sum(1 << order for _, order in entries),
            f"pages is {pages}, the entries name another number",
        ),
        (start_ns <= end_ns, f"the call ends at {end_ns}, before its start at {start_ns}"),
    ):
        if not holds:
            raise InputError(message, file=file, line=number)
    errno = whole_number(error.removeprefix("-"), "error", file=file, line=number)
    return ReportCall(seq, number, start_ns, end_ns, entries, free_pages, errno)


def _entries(text: str, file: str, line: int) -> Iterator[Block]:
    for entry in text.split():
        pfn_text, slash, order_text = entry.partition("/")
        pfn = hex_number(pfn_text, "pfn", file=file, line=line)
        order = whole_number(order_text, "order", file=file, line=line)
        if not slash or order > ORDER_MAX or pfn % (1 << order):
            raise InputError(f"{excerpt(entry)} is no block", file=file, line=line)
        yield pfn, order


def _check_sequence(call: ReportCall, before: list[ReportCall], file: str) -> None:
    if before and call.number <= before[-1].number:
        message = f"seq {call.number} follows seq {before[-1].number}"
        raise InputError(message, file=file, line=call.line)
    if before and call.start_ns < before[-1].end_ns:
        raise InputError("it starts before the last one ended", file=file, line=call.line)
