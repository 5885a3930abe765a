"""What made each pass of a trace start: a freed block, or the pass before it.

A pass during which a block was freed (notify), or a list of which ran out of its budget, was
requested again: the next one starts 2 s after its end. Any other leaves the device idle, and the
first block freed afterwards is the cause of the next. The registration of the device, cause of the
first pass, is on no clock of a trace.

Models Linux 6.1 `mm/page_reporting.c`: `__page_reporting_request`, `page_reporting_process`.
Rules: docs/model.md, 7.1.
"""

from collections.abc import Iterator

from pagesoak.base.layout import REPORTING_CAPACITY
from pagesoak.study.pass_starts import PassStart
from pagesoak.study.pass_trace import PassTrace, TracedPass
from pagesoak.study.predicted_reports import PredictedPass


def starts_of(
    trace: PassTrace, predicted: list[PredictedPass] | None = None
) -> Iterator[PassStart]:
    """Every pass and its cause, where the trace shows one; `predicted` as far as it is known."""
    before: TracedPass | None = None
    for number, made in enumerate(trace.passes):
        where = f"{trace.file}:{made.line}"
        asked = predicted[number - 1] if predicted and 0 < number <= len(predicted) else None
        cause, cause_ns = _cause(trace, made, before, asked)
        yield PassStart(made.number, made.start_ns, where, cause, cause_ns)
        before = made


def _cause(
    trace: PassTrace, made: TracedPass, before: TracedPass | None, predicted: PredictedPass | None
) -> tuple[str, int | None]:
    """What made a pass start, and when; `predicted` is the pass before it."""
    if before is None:
        return "the driver's registration is not in the trace", None
    if before.end_ns < 0 or before.number + 1 != made.number:
        return "the pass before it is not in the recording to its end", None
    if any(before.start_ns <= lost_ns <= made.start_ns for lost_ns in trace.lost_ns):
        return "events were lost before it", None
    if before.notified or (predicted is not None and predicted.requested_again):
        return "the end of a pass that was requested again", before.end_ns
    if predicted is None and _may_have_run_out_of_budget(before):
        return "whether the pass before it asked for it is not recorded", None
    freed = (at_ns for at_ns in trace.notified_ns if before.end_ns <= at_ns <= made.start_ns)
    first = next(freed, None)
    return ("a freed block", first) if first is not None else ("no free is in the trace", None)


def _may_have_run_out_of_budget(made: TracedPass) -> bool:
    """A list asks for another pass only after two full reports (budget 1, tested as below 0)."""
    full = sum(len(call.isolated) == REPORTING_CAPACITY for call in made.calls)
    return full > 1
