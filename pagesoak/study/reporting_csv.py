"""`reporting.csv`: the report calls of a trace as a table, one line per call.

    pass,pass_start_s,call,t_first_isolate_s,t_report_s,t_return_s,window_us,t_last_putback_s,…
    1,9.408465,1,9.409454,9.409950,9.411841,1891,9.412549,32,31744,9:2 10:30,6200/9 5a00/9 …

It is made from the trace beside it. Where both are there, they must agree; where only the table is
there, it stands in for the trace, without the frees between passes and the put-backs.
"""

from pathlib import Path

from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile, excerpt, hex_number, whole_number
from pagesoak.study.fidelity_result import Fault
from pagesoak.study.pass_trace import Block, PassTrace, TracedCall, TracedPass

_COLUMNS = (
    "pass", "pass_start_s", "call", "t_first_isolate_s", "t_report_s", "t_return_s", "window_us",
    "t_last_putback_s", "nents", "pages", "by_order",
)  # fmt: skip
_MICROSECOND_DIGITS = 6


def read_reporting_table(path: Path) -> PassTrace:
    """The passes that made calls. Raises InputError when it cannot be read at all.

    A line that cannot be right is a fault; what comes before it and after it is kept.
    """
    text = TextFile(path)
    trace = PassTrace(text.name)
    lines = iter(text)
    while True:
        try:
            number, line = next(lines)
        except StopIteration:
            return trace
        except InputError as error:
            if error.line is None:
                raise
            trace.faults.append(Fault.of(error))
            return trace
        if number == 1 and line.startswith("pass,"):
            continue
        try:
            _take(line, number, trace)
        except InputError as error:
            trace.faults.append(Fault.of(error))


def _take(line: str, number: int, trace: PassTrace) -> None:
    *fields, blocks = line.split(",")
    if len(fields) != len(_COLUMNS):
        message = f"expected {len(_COLUMNS) + 1} fields, found {len(fields) + 1}: {excerpt(line)}"
        raise InputError(message, file=trace.file, line=number)
    named = dict(zip(_COLUMNS, fields, strict=True))

    def count(name: str) -> int:
        return whole_number(named[name], name, file=trace.file, line=number)

    def time_ns(name: str) -> int:
        whole, _, rest = named[name].partition(".")
        digits = whole + rest.ljust(_MICROSECOND_DIGITS, "0")[:_MICROSECOND_DIGITS]
        return whole_number(digits, name, file=trace.file, line=number) * 1000

    isolated = [_block(text, trace.file, number) for text in blocks.split()]
    call = TracedCall(
        number,
        isolated,
        time_ns("t_first_isolate_s"),
        time_ns("t_report_s"),
        time_ns("t_return_s"),
        count("nents"),
        put_back_ns=time_ns("t_last_putback_s"),
    )
    if sum(1 << order for _, order in isolated) != count("pages"):
        message = f"pages is {count('pages')}, the blocks have another number"
        raise InputError(message, file=trace.file, line=number)
    if not trace.passes or trace.passes[-1].number != count("pass"):
        trace.passes.append(TracedPass(count("pass"), number, time_ns("pass_start_s")))
    trace.passes[-1].calls.append(call)
    trace.passes[-1].end_ns = call.put_back_ns
    trace.ended_ns = call.put_back_ns


def _block(text: str, file: str, line: int) -> Block:
    pfn_text, slash, order_text = text.partition("/")
    pfn = hex_number(pfn_text, "pfn", file=file, line=line)
    order = whole_number(order_text, "order", file=file, line=line)
    if not slash or pfn % (1 << order):
        raise InputError(f"{excerpt(text)} is no block", file=file, line=line)
    return pfn, order


def contradictions(table: PassTrace, trace: PassTrace) -> list[Fault]:
    """Where the table says something else than the trace it was made from."""
    calls = [(made.number, call) for made in trace.passes for call in made.calls]
    listed = [(made.number, call) for made in table.passes for call in made.calls]
    faults = [
        Fault(f"{table.file}:{said.line}", f"contradicts the trace ({trace.file}:{call.line})")
        for (pass_said, said), (number, call) in zip(listed, calls, strict=False)
        if (pass_said, said.entries, said.isolated) != (number, call.entries, call.isolated)
    ]
    if len(listed) != len(calls) and not trace.faults:
        faults.append(Fault(table.file, f"{len(listed)} calls, the trace has {len(calls)}"))
    return faults
