"""How a log call becomes one line of JSON, in the process that made the call.

Records of structlog and of the standard library take the same way: they get the process's context
(contextvars), level, time and logger name, their exception becomes text, and `LineHandler` makes
one line of them and hands it on. Everything is rendered here, where the exception is still alive:
a record that is rendered by its receiver arrives without its traceback, and one that carries
objects may not arrive at all. What goes on is text and nothing else.

No record is written twice, none holds up its writer, and none fails: what exceeds the rate limit
(`logs_limit`), cannot be handed on or cannot be printed is dropped, counted, and the counts are
written as `log.dropped`. Tracebacks never show local variables.

Do not log from a signal handler: a queue's lock may be held by the very code it interrupted.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from pagesoak.base.units import KIB
from pagesoak.engine.logs_limit import Drop, RateLimit

# Twice the deepest traceback the code can produce; a text that is longer keeps its two ends.
FIELD_CHARS_MAX = 8 * KIB
# A line is bounded so that the records waiting for the receiver are: a reader's page, not a dump.
LINE_CHARS_MAX = 32 * KIB

# What a reader looks for first stands first; the other fields follow in the order of the call.
LEAD_KEYS = ("time", "level", "worker", "event")
# What is kept of a record whose line would be too long.
CONTEXT_KEYS = ("run", "policy", "seed", "incarnation", "pid", "logger", "monotonic_ns")
IDENTITY_KEYS = (*LEAD_KEYS, *CONTEXT_KEYS)
# Whose a record is, where one process speaks of many runs.
WHOSE_KEYS = ("run", "worker", "pid")
# What a dated text says in front, or not at all.
DATED_TEXT_HIDES = ("time", "level", "event", "logger", "monotonic_ns")
# Of a time in ISO 8601: down to the second, as people read it.
TIME_CHARS = len("2026-01-31T23:59:59")

DROPPED_EVENT = "log.dropped"

MonotonicClock = Callable[[], int]
SendLine = Callable[[str, int], bool]
"""Takes a line and its level; False if it could not be handed on. Never raises, never waits."""


def shorten(text: str) -> str:
    """`text`, or its two ends if it is longer than a field may be."""
    if len(text) <= FIELD_CHARS_MAX:
        return text
    half = FIELD_CHARS_MAX // 2
    return f"{text[:half]} ...[{len(text) - 2 * half} characters left out]... {text[-half:]}"


def _plain(value: object) -> str:
    """The JSON text of a value that JSON has no word for."""
    return shorten(repr(value))


def _dump(fields: EventDict) -> str:
    try:
        return json.dumps(fields, default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no texts, not-a-number, circles: rare, and no reason to lose the record.
        plain = (bool, int, str, type(None))
        return json.dumps(
            {
                str(key): value if isinstance(value, plain) else _plain(value)
                for key, value in fields.items()
            }
        )


def to_line(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """The last processor: one line of JSON, ASCII only, at most `LINE_CHARS_MAX` long."""
    fields = {key: event_dict.pop(key) for key in LEAD_KEYS if key in event_dict}
    fields.update(event_dict)
    for key, value in fields.items():
        if isinstance(value, str):
            fields[key] = shorten(value)
    line = _dump(fields)
    if len(line) <= LINE_CHARS_MAX:
        return line
    kept = {key: str(fields[key])[:200] for key in IDENTITY_KEYS if key in fields}
    return json.dumps({**kept, "truncated_from_chars": len(line)})


def to_text(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """The last processor for a terminal: level, event, the call's own fields, the traceback."""
    return _text(event_dict, IDENTITY_KEYS)


def to_dated_text(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """The last processor for the terminal of a process with many runs: the time (UTC) in front,
    then as `to_text`, with whose the record is before its other fields.
    """
    whose = {key: event_dict[key] for key in WHOSE_KEYS if key in event_dict}
    text = _text({**whose, **event_dict}, DATED_TEXT_HIDES)
    return f"{str(event_dict['time'])[:TIME_CHARS]}Z {text}"


def _text(event_dict: EventDict, hidden: Sequence[str]) -> str:
    """Level, event, the fields that are not hidden, the traceback."""
    exception = event_dict.pop("exception", None)
    words = [f"{event_dict.get('level', 'info')}: {_printable(str(event_dict.get('event', '')))}"]
    words += [
        f"{key}={_printable(str(value))}" for key, value in event_dict.items() if key not in hidden
    ]
    lines = [" ".join(words)]
    if isinstance(exception, str):
        lines += [_printable(line) for line in exception.splitlines()]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Control characters as escapes: a log line must not move the terminal's cursor."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class RecordChain:
    """The processors of one process, and the clock and the limit they use.

    The rate limit stands first, so that a dropped record costs next to nothing; the exception is
    rendered before the record is wrapped for the standard library.
    """

    def __init__(self, limit: RateLimit, monotonic_ns: MonotonicClock = time.monotonic_ns) -> None:
        self.limit = limit
        self.monotonic_ns = monotonic_ns
        self.stamps: Sequence[Processor] = (
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            self._add_monotonic,
        )

    def configure(self, handlers: Sequence[logging.Handler], level: int) -> None:
        """Route structlog and the root logger of this process to `handlers`, and nowhere else."""
        root = logging.getLogger()
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(
            processors=[
                self._apply_limit,
                *self.stamps,
                structlog.stdlib.add_logger_name,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.ExceptionRenderer(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.stdlib.LoggerFactory(),
            # A logger cached before a fork would keep the parent's processors in the child.
            cache_logger_on_first_use=False,
        )

    def formatter(self, last: Processor) -> logging.Formatter:
        """For records of both kinds; those of other libraries get stamps and traceback here."""
        return structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
            foreign_pre_chain=[
                *self.stamps,
                structlog.stdlib.add_logger_name,
                structlog.processors.ExceptionRenderer(),
            ],
        )

    def own_line(
        self, event: str, level: str = "warning", last: Processor = to_line, **fields: object
    ) -> str:
        """A line the log writes about itself: past every limit, through no logger."""
        event_dict: Any = {"event": event, **fields}
        for stamp in self.stamps:
            event_dict = stamp(None, level, event_dict)
        return str(last(None, level, event_dict))

    def _add_monotonic(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["monotonic_ns"] = self.monotonic_ns()
        return event

    def _apply_limit(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if not self.limit.admit(str(event.get("event", "")), self.monotonic_ns()):
            raise structlog.DropEvent
        return event


class LineHandler(logging.Handler):
    """Turns each record into one line, or the text that `last` makes of it, and hands it to
    `send`; raises nothing, prints nothing.
    """

    def __init__(self, chain: RecordChain, send: SendLine, last: Processor = to_line) -> None:
        super().__init__()
        self._chain = chain
        self._send = send
        self._last = last
        self.setFormatter(chain.formatter(last))

    def emit(self, record: logging.LogRecord) -> None:
        """Render and hand on one record, after the report of what was dropped before it."""
        chain = self._chain
        # structlog's records carry their fields as the message; of the others, the text before its
        # arguments are put in is what those of one kind have in common.
        message: object = record.msg
        foreign = not isinstance(message, dict) or not hasattr(record, "_name")
        name = str(message["event"] if isinstance(message, dict) and not foreign else message)
        self.report_due()
        if foreign and not chain.limit.admit(name, chain.monotonic_ns()):
            return
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - whatever a value's repr raises, the worker goes on
            chain.limit.count_drop(name, "unprintable")
            return
        if not self._send(line, record.levelno):
            chain.limit.count_drop(name, "backlog")

    def report_due(self) -> None:
        """Write down the drops of the seconds that are over; worth a call now and then."""
        self._report(self._chain.limit.take_due(self._chain.monotonic_ns()))

    def report_drops(self) -> None:
        """Write down every drop not yet reported, without waiting for the second to end."""
        self._report(self._chain.limit.take_all())

    def _report(self, drops: Sequence[Drop]) -> None:
        for drop in drops:
            line = self._chain.own_line(DROPPED_EVENT, last=self._last, **drop._asdict())
            if not self._send(line, logging.WARNING):
                self._chain.limit.count_drop(*drop)


class TextHandler(logging.Handler):
    """Shows the records of this process to people, as text, from `level` on."""

    def __init__(self, chain: RecordChain, write_text: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._write_text = write_text
        self.setFormatter(chain.formatter(to_text))

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record. A terminal that is gone costs the view only: the file has it too."""
        with contextlib.suppress(Exception):
            self._write_text(self.format(record))
