"""Reporting passes as a trace of the reporting functions shows them.

The probes: process and process_ret around a pass, isolate and isolate_ret per block, report and
report_ret around a call, putback per block, notify per freed block that is large enough. Blocks
isolated outside a pass are compaction's. A trace that cannot be read to its end gives what comes
before the fault; a pass in which events were lost is marked.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pagesoak.allocator import trace_record as kinds
from pagesoak.allocator.trace import read_trace
from pagesoak.allocator.trace_record import TraceRecord
from pagesoak.base.errors import InputError
from pagesoak.study.fidelity_result import Fault
from pagesoak.study.fidelity_trace_events import TraceColumns

_KINDS = frozenset(
    {
        kinds.PROCESS,
        kinds.PROCESS_RET,
        kinds.ISOLATE,
        kinds.ISOLATE_RET,
        kinds.REPORT,
        kinds.REPORT_RET,
        kinds.PUTBACK,
        kinds.NOTIFY,
        kinds.LOST,
    }
)
Block = tuple[int, int]
"""First page and order."""
UNKNOWN_NS = -1


@dataclass
class TracedCall:
    """One report call; times in ns of the guest's clock, UNKNOWN_NS where nothing says when."""

    line: int = 0
    isolated: list[Block] = field(default_factory=list)
    """In the order of isolation."""
    isolated_ns: int = UNKNOWN_NS
    """The first isolation."""
    start_ns: int = UNKNOWN_NS
    end_ns: int = UNKNOWN_NS
    entries: int = 0
    """As the call was told."""
    error: int = 0
    put_back: list[Block] = field(default_factory=list)
    put_back_ns: int = UNKNOWN_NS
    """The last put-back."""

    @property
    def scatterlist(self) -> tuple[Block, ...]:
        """Entries as the device saw them: the list is filled from its end."""
        return tuple(reversed(self.isolated))


@dataclass
class TracedPass:
    """One pass; `whole` is False when its end or some of its events are missing."""

    number: int
    line: int
    start_ns: int
    end_ns: int = UNKNOWN_NS
    calls: list[TracedCall] = field(default_factory=list)
    refused: int = 0
    """Isolations that would have left too little free."""
    notified: bool = False
    """A block was freed meanwhile, so that the pass was requested again."""
    whole: bool = True


@dataclass
class PassTrace:
    """All passes of a trace in order, and what lies between them."""

    file: str
    passes: list[TracedPass] = field(default_factory=list)
    notified_ns: list[int] = field(default_factory=list)
    """Blocks freed outside of passes."""
    lost_ns: list[int] = field(default_factory=list)
    """Where events were lost."""
    markers: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    started_ns: int = UNKNOWN_NS
    ended_ns: int = UNKNOWN_NS


def read_pass_trace(path: Path) -> PassTrace:
    """The passes of a trace file. Raises InputError when it cannot be read at all."""
    reader = _Reader(PassTrace(str(path)))
    try:
        for event in read_trace(path):
            reader.take(event)
    except InputError as error:
        if error.line is None:
            raise
        reader.trace.faults.append(Fault.of(error))
    return reader.finish()


def pass_trace_of(columns: TraceColumns, file: str) -> PassTrace:
    """The same from the events of a trace that is read already."""
    reader = _Reader(PassTrace(file))
    for index, kind in enumerate(columns.kind):
        if kind in _KINDS:
            event = TraceRecord(
                kind,
                columns.time_ns[index],
                0,
                columns.line[index],
                columns.pfn[index],
                columns.order[index],
                value=columns.value[index],
            )
            reader.take(event)
    return reader.finish()


class _Reader:
    """Follows the events of a trace."""

    def __init__(self, trace: PassTrace) -> None:
        self.trace = trace
        self._pass: TracedPass | None = None
        self._call = TracedCall()
        self._asked: Block | None = None  # to be isolated, the answer is still to come
        self._takers = {
            kinds.PROCESS_RET: self._end_pass,
            kinds.ISOLATE: self._isolate,
            kinds.ISOLATE_RET: self._isolated,
            kinds.REPORT: self._report,
            kinds.REPORT_RET: self._answer,
            kinds.PUTBACK: self._put_back,
        }

    def take(self, event: TraceRecord) -> None:
        """Any event."""
        trace = self.trace
        if event.kind == kinds.LOST:
            self._lost(event)
            return
        if trace.started_ns < 0:
            trace.started_ns = event.time_ns
        trace.ended_ns = event.time_ns
        if event.kind == kinds.TRACING_MARK_WRITE:
            trace.markers.append(event.text)
        elif event.kind == kinds.PROCESS:
            self._begin_pass(event)
        elif event.kind == kinds.NOTIFY:
            self._notify(event)
        elif self._pass is not None and event.kind in self._takers:
            self._takers[event.kind](event)

    def finish(self) -> PassTrace:
        """The trace, after its last event."""
        if self._pass is not None:
            self._pass.whole = False
        return self.trace

    def _lost(self, event: TraceRecord) -> None:
        self.trace.lost_ns.append(max(event.time_ns, self.trace.ended_ns))
        count = "an unknown number of" if event.value < 0 else str(event.value)
        place = f"{self.trace.file}:{event.line}"
        self.trace.faults.append(Fault(place, f"{count} events were lost"))
        if self._pass is not None:
            self._pass.whole = False

    def _begin_pass(self, event: TraceRecord) -> None:
        if self._pass is not None:
            self._pass.whole = False
        self._pass = TracedPass(len(self.trace.passes) + 1, event.line, event.time_ns)
        self.trace.passes.append(self._pass)
        self._call = TracedCall()
        self._asked = None

    def _end_pass(self, event: TraceRecord) -> None:
        if self._pass is not None:
            self._pass.end_ns = event.time_ns
            self._pass.whole &= not self._call.isolated and self._asked is None
        self._pass = None

    def _notify(self, event: TraceRecord) -> None:
        if self._pass is None:
            self.trace.notified_ns.append(event.time_ns)
        else:
            self._pass.notified = True

    def _isolate(self, event: TraceRecord) -> None:
        self._asked = (event.pfn, event.order)
        if not self._call.isolated:
            self._call.isolated_ns = event.time_ns

    def _isolated(self, event: TraceRecord) -> None:
        if self._pass is None or self._asked is None:
            return
        if event.value:
            self._call.isolated.append(self._asked)
        else:
            self._pass.refused += 1
        self._asked = None

    def _report(self, event: TraceRecord) -> None:
        if self._pass is None:
            return
        call = self._call
        call.line, call.start_ns, call.entries = event.line, event.time_ns, event.value
        self._pass.calls.append(call)
        self._call = TracedCall()

    def _answer(self, event: TraceRecord) -> None:
        if self._pass is not None and self._pass.calls:
            self._pass.calls[-1].end_ns = event.time_ns
            self._pass.calls[-1].error = abs(event.value)

    def _put_back(self, event: TraceRecord) -> None:
        if self._pass is not None and self._pass.calls:
            self._pass.calls[-1].put_back.append((event.pfn, event.order))
            self._pass.calls[-1].put_back_ns = event.time_ns
