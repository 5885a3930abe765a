"""The log of a run's workers: structlog, the standard library, multiprocessing-logging.

A worker's record becomes a line in the worker (`logs_record`), travels through a channel
(`logs_channel`) and is written to the run's `worker.log.jsonl` by a receiver thread of the runner
(`logs_sink`). Workers are killed on purpose here, and the library as usually set up does not live
through that, so this module keeps to these rules:

* One channel for each *incarnation* of a worker. A queue has one write lock for all its writers; a
  process killed while it holds that lock silences everybody else on the queue for ever. Here it
  takes only its own queue with it.
* The parent closes its own write end right after the fork, and a child closes what it inherited of
  all others. So the receiver of a dead worker reads end-of-file, even in the middle of a record,
  and its thread and descriptors go; otherwise each kill leaks a thread and two descriptors.
* The start method is `fork`, set before anything else asks for it: the library refuses any other.
* A queue has no bound. A worker whose records are not taken in any more drops and counts them.

Order of calls, for each life of a worker::

    logs = WorkerLogs(directory / "worker.log.jsonl")  # in the runner, no other thread running
    incarnation = logs.prepare("guest-0")              # before the fork
    # in the child: child_log = incarnation.attach_child({"run": ..., "policy": ..., "seed": ...})
    #               ... the worker's life ...; child_log.close()
    # in the parent: incarnation.attach_parent(), and once the worker has been seen dead:
    incarnation.retire()
    logs.close()

Logs are for people. What a killed worker had not yet sent is lost, and how many records that were
is logged as `log.unsent`; what must survive a kill belongs into the flight recorder.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from pagesoak.base.errors import HarnessError
from pagesoak.engine.logs_channel import Channel, require_fork
from pagesoak.engine.logs_limit import RECORDS_PER_NAME_PER_SECOND, RateLimit
from pagesoak.engine.logs_record import LineHandler, MonotonicClock, RecordChain, TextHandler
from pagesoak.engine.logs_sink import WORKER_LOG_BYTES_MAX, IncarnationSink, LogSink

# An ending worker waits this long for its last records to be taken in: the pipe holds 64 KiB, some
# milliseconds of work; the rest is for a machine that is busy.
FLUSH_SECONDS = 2.0
FLUSH_POLL_SECONDS = 0.005

UNSENT_EVENT = "log.unsent"


class ChildLog:
    """The log as the worker has it; made by `Incarnation.attach_child`."""

    def __init__(self, handler: LineHandler, channel: Channel) -> None:
        self._handler = handler
        self._channel = channel

    def report_drops(self) -> None:
        """Write down what was dropped so far; worth a call now and then in a worker that idles."""
        self._handler.report_drops()

    def close(self) -> None:
        """Wait until every record has been taken in, at most `FLUSH_SECONDS`; the last call."""
        self._handler.report_drops()
        deadline_seconds = time.monotonic() + FLUSH_SECONDS
        while self._channel.in_flight() > 0 and time.monotonic() < deadline_seconds:
            time.sleep(FLUSH_POLL_SECONDS)


class Incarnation:
    """One life of one worker, from before the fork to its end; made by `WorkerLogs.prepare`."""

    def __init__(self, logs: "WorkerLogs", worker: str, number: int, channel: Channel) -> None:
        self.worker = worker
        self.number = number
        self.channel = channel
        self._logs = logs
        self._runner_pid = os.getpid()
        self._retired = False

    def attach_child(
        self,
        context: Mapping[str, object],
        *,
        level: int = logging.INFO,
        records_per_name_per_second: int = RECORDS_PER_NAME_PER_SECOND,
        monotonic_ns: MonotonicClock = time.monotonic_ns,
    ) -> ChildLog:
        """In the child, right after the fork: from here on every log call goes to the run's log.

        `context` (run, policy, seed) stands in every record, with the worker's name, the number of
        its incarnation and its process ID.
        """
        if os.getpid() == self._runner_pid:
            raise HarnessError(f"attach_child of '{self.worker}' called in the runner")
        self._logs.give_up_in_child(keep=self)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            worker=self.worker, incarnation=self.number, pid=os.getpid(), **context
        )
        self.channel.never_wait_at_exit()
        chain = RecordChain(RateLimit(records_per_name_per_second), monotonic_ns)
        handler = LineHandler(chain, self.channel.send)
        chain.configure([handler], level)
        logging.captureWarnings(capture=True)
        return ChildLog(handler, self.channel)

    def attach_parent(self) -> None:
        """In the runner, right after the fork: leave the write end to the worker alone."""
        if os.getpid() != self._runner_pid:
            raise HarnessError(f"attach_parent of '{self.worker}' called in a child")
        self.channel.close_write_end()

    def retire(self) -> bool:
        """When the worker has ended, or was never forked: write what it sent, end its receiver.

        Bounded in time. False if the receiver could not be ended, which takes a *living* process
        that still holds the write end.
        """
        if self._retired:
            return True
        self._retired = True
        ended, unsent_records = self.channel.drain_and_end()
        self._logs.forget(self, unsent_records)
        return ended


class WorkerLogs:
    """The runner's side: the sink in `path` and a receiver per living worker.

    The file is opened with the first record. A file that cannot be written costs records, counted
    in `lost_lines`, and nothing else.
    """

    def __init__(self, path: Path, *, bytes_max: int = WORKER_LOG_BYTES_MAX) -> None:
        require_fork()
        self._chain = RecordChain(RateLimit())
        self._sink = LogSink(path, self._chain.own_line, bytes_max=bytes_max)
        self._living: list[Incarnation] = []
        self._lives: dict[str, int] = {}
        self._foreground: LineHandler | None = None
        self._root_before: tuple[list[logging.Handler], int] = ([], logging.WARNING)
        self._closed = False

    @property
    def lost_lines(self) -> int:
        """Lines the disk refused."""
        return self._sink.lost_lines

    @property
    def dropped_records(self) -> int:
        """Records that workers say they dropped, and lines the disk refused."""
        return self._sink.dropped_records + self._sink.lost_lines

    @property
    def error_records(self) -> int:
        """Records of level error and above that have arrived."""
        return self._sink.error_records

    def prepare(self, worker: str) -> Incarnation:
        """Queue and receiver for the next life of `worker`; call it right before the fork.

        Raises:
            PagesoakError: descriptors, threads or semaphores have run out.
        """
        channel = Channel(worker, IncarnationSink(self._sink))
        number = self._lives.get(worker, 0) + 1
        self._lives[worker] = number
        incarnation = Incarnation(self, worker, number, channel)
        self._living.append(incarnation)
        return incarnation

    def configure_foreground(
        self,
        verbosity: int,
        context: Mapping[str, object],
        write_text: Callable[[str], None] | None = None,
    ) -> None:
        """Route the runner's own log: to the run's file, and for people to `write_text`.

        People see warnings and errors at `verbosity` 0, what happens at 1, all details at 2, and
        errors only below 0. `write_text` gets one or more lines, without a newline at the end.
        """
        level = {0: logging.WARNING, 1: logging.INFO}.get(
            verbosity, logging.ERROR if verbosity < 0 else logging.DEBUG
        )
        root = logging.getLogger()
        if self._foreground is None:
            self._root_before = (list(root.handlers), root.level)
        self._foreground = LineHandler(self._chain, self._sink.write)
        handlers: list[logging.Handler] = [self._foreground]
        if write_text is not None:
            handlers.append(TextHandler(self._chain, write_text, level))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(worker="runner", pid=os.getpid(), **context)
        self._chain.configure(handlers, min(level, logging.INFO))

    def close(self) -> None:
        """Retire every worker still known, give up the file and the runner's own log."""
        if self._closed:
            return
        self._closed = True
        for incarnation in tuple(self._living):
            incarnation.retire()
        if self._foreground is not None:
            self._foreground.report_drops()
            root = logging.getLogger()
            root.handlers[:], level = self._root_before
            root.setLevel(level)
            structlog.contextvars.clear_contextvars()
            structlog.reset_defaults()
        self._sink.close()

    def __enter__(self) -> Self:
        """Nothing more than the object itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def forget(self, incarnation: Incarnation, unsent_records: int) -> None:
        """For `Incarnation.retire`."""
        self._living.remove(incarnation)
        if unsent_records:
            line = self._chain.own_line(
                UNSENT_EVENT,
                worker=incarnation.worker,
                incarnation=incarnation.number,
                records=unsent_records,
            )
            self._sink.write(line, logging.WARNING)

    def give_up_in_child(self, keep: Incarnation) -> None:
        """For `Incarnation.attach_child`: close what the child inherited and must not hold."""
        for other in self._living:
            if other is not keep:
                other.channel.close_both_ends()
        self._sink.abandon()
