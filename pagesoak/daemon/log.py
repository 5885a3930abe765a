"""The daemon's own log, on standard error: for people on a terminal, with time and run, one JSON
object a line elsewhere, and with the priority in front (`<4>`) under journald.

The same chain as the workers' (`engine.logs_record`): rate limits with counts of what was dropped,
and nothing that a value holds can break a line.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from typing import TextIO

from pagesoak.engine.logs_limit import RateLimit
from pagesoak.engine.logs_record import LineHandler, RecordChain, to_dated_text, to_line

LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Of a record, and what the journal calls it."""
DEBUG_PRIORITY = 7
QUIET = {"uvicorn": logging.CRITICAL, "asyncio": logging.ERROR}
"""Loggers of libraries, and from what level on they are heard: they have a record for each hostile
request. What fails in a route is logged by the gate.
"""


def configure(stream: TextIO, environment: Mapping[str, str]) -> None:
    """Route everything that this process logs to `stream`."""
    chain = RecordChain(RateLimit())
    journal = is_journal(stream, environment)

    def send(line: str, level: int) -> bool:
        return _write(stream, f"<{priority(level)}>{line}" if journal else line)

    last = to_dated_text if not journal and stream.isatty() else to_line
    chain.configure([LineHandler(chain, send, last)], logging.INFO)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)


def report_due() -> None:
    """Say what was dropped in the seconds that are over: to be called each second, as nothing
    else may be logged for long.
    """
    for handler in _handlers():
        handler.report_due()


def report_drops() -> None:
    """Say what was dropped and not said yet: the last call."""
    for handler in _handlers():
        handler.report_drops()


def _handlers() -> Iterator[LineHandler]:
    """What `configure` has set; none in a program whose log is another's."""
    return (each for each in logging.getLogger().handlers if isinstance(each, LineHandler))


def as_error(text: str, stream: TextIO, environment: Mapping[str, str]) -> str:
    """A message of an error, as it goes to `stream` without a log: to the journal with the
    priority in front of each line.
    """
    if not is_journal(stream, environment):
        return text
    mark = f"<{priority(logging.ERROR)}>"
    return mark + text.replace("\n", f"\n{mark}")


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `stream` goes to the journal: systemd says which file that is."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def priority(level: int) -> int:
    """The journal's number for a level of the standard library."""
    return next((number for least, number in LEVELS if level >= least), DEBUG_PRIORITY)


def _write(stream: TextIO, text: str) -> bool:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except (OSError, ValueError):
        return False
    return True
