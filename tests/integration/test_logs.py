"""Worker logs with real processes: what arrives, what a kill -9 costs, and what never blocks."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pagesoak.base.errors import HarnessError
from pagesoak.engine.logs import ChildLog, Incarnation, WorkerLogs
from pagesoak.engine.logs_channel import BACKLOG_RECORDS_MAX, DRAIN_SECONDS, STOP_SECONDS
from pagesoak.engine.logs_limit import RECORDS_PER_NAME_PER_SECOND

CONTEXT = {"run": "run-7", "policy": "mainline", "seed": 42}
UNLIMITED = 10**9
KILLS = 500
KILLED_LOG_BYTES = 16 << 20
"""Of the file that they write; the one before it is not looked at."""
NEVER_ROTATE = 10**9

# Far more than a worker needs, also on a busy machine; only a hang takes as long.
WORKER_SECONDS_MAX = 20.0


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "worker.log.jsonl"


@pytest.fixture
def logs(log_path: Path) -> Iterator[WorkerLogs]:
    with WorkerLogs(log_path, bytes_max=NEVER_ROTATE) as worker_logs:
        yield worker_logs


STARTED: set[int] = set()  # workers that have not been seen dead


@pytest.fixture(autouse=True)
def no_worker_outlives_its_test() -> Iterator[None]:
    yield
    for pid in tuple(STARTED):
        kill(pid)


def kill(pid: int) -> None:
    """End a worker as nobody can prevent, and see it dead."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    STARTED.discard(pid)


def start(
    incarnation: Incarnation,
    body: Callable[[ChildLog], None],
    context: dict[str, Any] = CONTEXT,
    **options: Any,
) -> int:
    """Fork a worker that runs `body` with its log attached; its process ID."""
    pid = os.fork()
    if pid == 0:
        STARTED.clear()
        status = 1
        try:
            child_log = incarnation.attach_child(context, **options)
            body(child_log)
            child_log.close()
            status = 0
        finally:
            os._exit(status)
    STARTED.add(pid)
    incarnation.attach_parent()
    return pid


def wait_for(pid: int) -> int:
    """The exit status of a worker; one that hangs is killed and fails the test."""
    deadline = time.monotonic() + WORKER_SECONDS_MAX
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            STARTED.discard(pid)
            return status
        time.sleep(0.005)
    kill(pid)
    pytest.fail(f"worker {pid} did not end")


def run(logs: WorkerLogs, worker: str, body: Callable[[ChildLog], None], **options: Any) -> None:
    """A worker's whole life."""
    incarnation = logs.prepare(worker)
    assert wait_for(start(incarnation, body, **options)) == 0
    assert incarnation.retire()


def whole_lines(path: Path) -> list[str]:
    """The lines that are complete: a reader may see the last one while it is being written."""
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(path)]


def named(path: Path, event: str) -> list[dict[str, Any]]:
    return [record for record in records(path) if record["event"] == event]


def open_descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WORKER_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_until_writing(incarnation: Incarnation) -> None:
    wait_until(lambda: incarnation.channel.in_flight() > 0)


def fail_with_a_secret(log_it: Callable[[], object]) -> None:
    secret = "hidden-" + "value"  # noqa: F841 - must not show in the log
    try:
        raise ValueError("the visible reason")  # noqa: TRY301 - the traceback is what is tested
    except ValueError:
        log_it()


def test_a_record_of_each_worker_arrives_with_its_context(
    logs: WorkerLogs, log_path: Path
) -> None:
    workers = ("guest-0", "reporter", "host")

    def body(_log: ChildLog) -> None:
        structlog.get_logger("pagesoak.test").info("hello", pages=3)

    incarnations = [logs.prepare(worker) for worker in workers]
    pids = [start(incarnation, body) for incarnation in incarnations]
    assert [wait_for(pid) for pid in pids] == [0, 0, 0]
    assert all(incarnation.retire() for incarnation in incarnations)

    hellos = named(log_path, "hello")
    assert {(record["worker"], record["pid"]) for record in hellos} == set(
        zip(workers, pids, strict=True)
    )
    for record in hellos:
        assert {key: record[key] for key in CONTEXT} == CONTEXT
        assert (record["level"], record["pages"]) == ("info", 3)
        assert (record["incarnation"], record["logger"]) == (1, "pagesoak.test")
        assert record["time"].endswith("Z")
        assert 0 < record["monotonic_ns"] < time.monotonic_ns()


def test_an_exception_arrives_with_its_traceback_and_without_locals(
    logs: WorkerLogs, log_path: Path
) -> None:
    run(
        logs,
        "guest-0",
        lambda _log: fail_with_a_secret(lambda: structlog.get_logger().exception("broke")),
    )
    (record,) = named(log_path, "broke")
    assert record["level"] == "error"
    assert "ValueError: the visible reason" in record["exception"]
    assert "fail_with_a_secret" in record["exception"]
    assert "hidden-value" not in log_path.read_text()
    assert logs.error_records == 1


def test_an_exception_of_other_code_arrives_with_its_traceback(
    logs: WorkerLogs, log_path: Path
) -> None:
    foreign = logging.getLogger("x")
    run(
        logs,
        "host",
        lambda _log: fail_with_a_secret(lambda: foreign.exception("lost %d pages", 5)),
    )
    (record,) = named(log_path, "lost 5 pages")
    assert (record["level"], record["logger"], record["worker"]) == ("error", "x", "host")
    assert record["run"] == "run-7"
    assert "ValueError: the visible reason" in record["exception"]
    assert "hidden-value" not in log_path.read_text()


def test_levels_and_warnings(logs: WorkerLogs, log_path: Path) -> None:
    def body(_log: ChildLog) -> None:
        log = structlog.get_logger()
        log.debug("too fine")
        logging.getLogger("x").debug("too fine as well")
        log.warning("coarse")
        warnings.simplefilter("always")
        warnings.warn("a library is worried", stacklevel=1)

    run(logs, "guest-0", body)
    run(logs, "guest-0", lambda _log: structlog.get_logger().debug("fine"), level=logging.DEBUG)
    seen = [
        (record["event"], record["level"], record["incarnation"]) for record in records(log_path)
    ]
    assert seen[0] == ("coarse", "warning", 1)
    assert "a library is worried" in seen[1][0]
    assert seen[2] == ("fine", "debug", 2)
    assert len(seen) == 3


def test_values_json_has_no_word_for_are_written_all_the_same(
    logs: WorkerLogs, log_path: Path
) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    def body(_log: ChildLog) -> None:
        log = structlog.get_logger()
        log.info("odd", lock=threading.Lock(), text="two\nlines \udc80", nan=float("nan"))
        log.info("long", text="x" * 100_000)
        log.info("longer", pages=list(range(100_000)))
        log.info("hostile", value=Hostile())
        logging.getLogger("x").info("%d pages", "many")

    run(logs, "guest-0", body)
    (odd,) = named(log_path, "odd")
    assert "lock" in odd["lock"]
    assert odd["nan"] == "nan"
    assert len(named(log_path, "long")[0]["text"]) < 10_000
    (longer,) = named(log_path, "longer")
    assert longer["truncated_from_chars"] > 100_000
    assert longer["worker"] == "guest-0"
    dropped = named(log_path, "log.dropped")
    assert {(drop["of"], drop["reason"], drop["records"]) for drop in dropped} == {
        ("hostile", "unprintable", 1),
        ("%d pages", "unprintable", 1),
    }


@pytest.mark.slow
def test_others_go_on_logging_through_five_hundred_kills_and_nothing_leaks(log_path: Path) -> None:
    with WorkerLogs(log_path, bytes_max=KILLED_LOG_BYTES) as logs:
        go_on_through_kills(logs, log_path)


def go_on_through_kills(logs: WorkerLogs, log_path: Path) -> None:
    def steady(_log: ChildLog) -> None:
        stop = False

        def ask_to_stop(_signal: int, _frame: object) -> None:
            nonlocal stop
            stop = True

        signal.signal(signal.SIGTERM, ask_to_stop)
        log, number = structlog.get_logger(), 0
        while not stop:
            log.info("tick", number=number)
            number += 1
            time.sleep(0.005)

    def chatty(_log: ChildLog) -> None:
        log = structlog.get_logger()
        while True:
            log.info("chatter", text="x" * 8_000)  # a pipe is full after eight of these

    run(logs, "host", lambda _log: structlog.get_logger().info("the file is open now"))
    threads_before, descriptors_before = threading.active_count(), open_descriptors()
    steady_ones = [logs.prepare(worker) for worker in ("guest-1", "reporter")]
    pids = [start(one, steady, records_per_name_per_second=UNLIMITED) for one in steady_ones]
    wait_until(lambda: len({record["worker"] for record in named(log_path, "tick")}) == 2)
    threads_steady, descriptors_steady = threading.active_count(), open_descriptors()

    for life in range(1, KILLS + 1):
        incarnation = logs.prepare("guest-0")
        assert incarnation.number == life
        pid = start(incarnation, chatty, records_per_name_per_second=UNLIMITED)
        wait_until_writing(incarnation)
        time.sleep(0.001 * (life % 31))  # it is writing; each time it is killed somewhere else
        kill(pid)
        assert incarnation.retire()
        assert threading.active_count() == threads_steady
        assert open_descriptors() == descriptors_steady
        if life % 50 == 0:  # nobody is silent
            killed_ns = time.monotonic_ns()
            wait_until(lambda at=killed_ns: _ticked_after(log_path, at) == {"guest-1", "reporter"})  # type: ignore[misc]

    for one, pid in zip(steady_ones, pids, strict=True):
        os.kill(pid, signal.SIGTERM)
        assert wait_for(pid) == 0
        assert one.retire()
        ticks = [r["number"] for r in named(log_path, "tick") if r["worker"] == one.worker]
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert named(log_path, "chatter")
    assert threading.active_count() == threads_before
    assert open_descriptors() == descriptors_before


def _ticked_after(path: Path, monotonic_ns: int) -> set[str]:
    lines = whole_lines(path)[-400:]
    ticks = [json.loads(line) for line in lines if '"tick"' in line]
    return {tick["worker"] for tick in ticks if tick["monotonic_ns"] > monotonic_ns}


def test_a_worker_that_got_no_thread_once_is_heard_when_it_gets_one(
    logs: WorkerLogs, log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = threading.Thread.start
    refused = iter((True, True))

    def start_thread(thread: threading.Thread) -> None:
        if next(refused, False):
            raise RuntimeError("can't start new thread")
        begin(thread)

    def body(_log: ChildLog) -> None:
        monkeypatch.setattr(threading.Thread, "start", start_thread)
        for number in range(5):
            structlog.get_logger("pagesoak.test").info("hello", number=number)

    run(logs, "guest-0", body)
    assert [record["number"] for record in named(log_path, "hello")] == [2, 3, 4]
    assert not named(log_path, "log.unsent")


def test_a_flood_is_limited_and_what_was_dropped_is_told(logs: WorkerLogs, log_path: Path) -> None:
    def body(_log: ChildLog) -> None:
        log, foreign = structlog.get_logger(), logging.getLogger("x")
        for number in range(3_000):
            log.info("flood", number=number)
            foreign.warning("foreign flood %d", number)
        log.info("quiet")

    began = time.monotonic()
    run(logs, "guest-0", body)
    windows = int(time.monotonic() - began) + 2
    drops = named(log_path, "log.dropped")
    for name, prefix in (("flood", "flood"), ("foreign flood %d", "foreign flood")):
        arrived = [r for r in records(log_path) if r["event"].startswith(prefix)]
        assert len(arrived) >= RECORDS_PER_NAME_PER_SECOND
        assert len(arrived) <= windows * RECORDS_PER_NAME_PER_SECOND
        dropped = sum(drop["records"] for drop in drops if drop["of"] == name)
        assert len(arrived) + dropped == 3_000
    assert {drop["reason"] for drop in drops} == {"rate"}
    assert len(named(log_path, "quiet")) == 1


def test_a_stuck_disk_never_holds_up_a_worker(logs: WorkerLogs, log_path: Path) -> None:
    sent = 4 * BACKLOG_RECORDS_MAX

    def body(_log: ChildLog) -> None:
        log = structlog.get_logger()
        for number in range(sent):
            log.info("busy", number=number)

    incarnation = logs.prepare("guest-0")
    sink = logs._sink  # holding its lock is a write that does not return
    sink.acquire()
    try:
        pid = start(incarnation, body, records_per_name_per_second=UNLIMITED)
        assert wait_for(pid) == 0
    finally:
        sink.release()
    assert incarnation.retire()
    arrived = len(named(log_path, "busy"))
    assert 0 < arrived <= BACKLOG_RECORDS_MAX + 1  # and the one the receiver had in hand
    (unsent,) = named(log_path, "log.unsent")
    assert unsent["worker"] == "guest-0"
    assert 0 < unsent["records"] <= BACKLOG_RECORDS_MAX


def test_a_worker_that_stopped_cannot_hold_up_its_retirement(
    logs: WorkerLogs, log_path: Path
) -> None:
    run(logs, "host", lambda _log: structlog.get_logger().info("the file is open now"))
    threads_before, descriptors_before = threading.active_count(), open_descriptors()
    incarnation = logs.prepare("guest-0")

    def body(_log: ChildLog) -> None:
        incarnation.channel._queue._sem.acquire()  # type: ignore[attr-defined]  # counted, not sent
        os.kill(os.getpid(), signal.SIGSTOP)

    pid = start(incarnation, body)
    os.waitpid(pid, os.WUNTRACED)
    began = time.monotonic()
    assert incarnation.retire()
    assert time.monotonic() - began < DRAIN_SECONDS + STOP_SECONDS + 1.0
    assert named(log_path, "log.unsent")[0]["records"] == 1
    assert threading.active_count() == threads_before
    assert open_descriptors() == descriptors_before


def test_a_worker_that_was_never_forked_leaves_nothing(logs: WorkerLogs) -> None:
    threads_before, descriptors_before = threading.active_count(), open_descriptors()
    incarnation = logs.prepare("guest-0")
    assert threading.active_count() == threads_before + 1
    assert incarnation.retire()
    assert incarnation.retire()  # a second time is harmless
    assert threading.active_count() == threads_before
    assert open_descriptors() == descriptors_before


def test_a_child_holds_no_descriptor_of_other_workers(logs: WorkerLogs, log_path: Path) -> None:
    def count(_log: ChildLog) -> None:
        structlog.get_logger().info("pipes", count=sum(map(_is_pipe, open_descriptors())))

    pipes_before = sum(map(_is_pipe, open_descriptors()))
    others = [logs.prepare(f"guest-{number}") for number in range(1, 4)]
    run(logs, "guest-0", count)
    assert named(log_path, "pipes")[0]["count"] == pipes_before + 2
    assert all(other.retire() for other in others)


def _is_pipe(descriptor: Path) -> bool:
    return descriptor.is_fifo()


def test_a_file_that_cannot_be_written_costs_records_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    with WorkerLogs(directory / "worker.log.jsonl") as logs:
        run(logs, "guest-0", lambda _log: structlog.get_logger().info("into the void"))
        assert logs.lost_lines == 1
        directory.mkdir()
        run(logs, "guest-0", lambda _log: structlog.get_logger().info("back again"))
        assert logs.lost_lines == 1
    events = [record["event"] for record in records(directory / "worker.log.jsonl")]
    assert events == ["back again", "log.lost"]
    assert named(directory / "worker.log.jsonl", "log.lost")[0]["records"] == 1


def test_a_full_disk_leaves_whole_lines_only(tmp_path: Path) -> None:
    """The limit on the size of a file is met in the middle of a line, as a full disk is."""
    path = tmp_path / "worker.log.jsonl"

    def body(_log: ChildLog) -> None:
        for number in range(40):
            structlog.get_logger().info("line", number=number)

    with WorkerLogs(path) as logs:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
        try:
            run(logs, "guest-0", body)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes().endswith(b"}\n")
        kept = len(named(path, "line"))
        assert 5 < kept < 40
        assert logs.lost_lines == 40 - kept
        run(logs, "guest-0", lambda _log: structlog.get_logger().info("room again"))
    assert len(named(path, "room again")) == 1
    assert named(path, "log.lost")[0]["records"] == 40 - kept


def test_the_log_is_bounded_and_keeps_its_newest_part(tmp_path: Path) -> None:
    path = tmp_path / "worker.log.jsonl"

    def body(_log: ChildLog) -> None:
        for number in range(1_000):
            structlog.get_logger().info("line", number=number)

    with WorkerLogs(path, bytes_max=20_000) as logs:
        run(logs, "guest-0", body, records_per_name_per_second=UNLIMITED)
    older = path.with_name("worker.log.jsonl.1")
    assert path.stat().st_size <= 20_000
    assert older.stat().st_size <= 20_000
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, older.name]
    numbers = [record["number"] for record in records(older) + records(path)]
    assert numbers == list(range(numbers[0], 1_000))


def test_the_log_belongs_to_its_owner_alone(logs: WorkerLogs, log_path: Path) -> None:
    run(logs, "guest-0", lambda _log: structlog.get_logger().info("hello"))
    assert log_path.stat().st_mode & 0o777 == 0o600


def test_the_two_sides_cannot_be_mixed_up(logs: WorkerLogs) -> None:
    incarnation = logs.prepare("guest-0")
    with pytest.raises(HarnessError, match="called in the runner"):
        incarnation.attach_child(CONTEXT)

    def body(_log: ChildLog) -> None:
        with pytest.raises(HarnessError, match="called in a child"):
            incarnation.attach_parent()

    assert wait_for(start(incarnation, body)) == 0
    assert incarnation.retire()


def test_the_runners_own_log_goes_to_the_file_and_to_people(log_path: Path) -> None:
    shown: list[str] = []
    foreign = logging.getLogger("x")
    root = logging.getLogger()
    handlers_before, level_before = list(root.handlers), root.level
    with WorkerLogs(log_path) as logs:
        logs.configure_foreground(0, {"run": "run-7"}, shown.append)
        log = structlog.get_logger()
        log.info("epoch begins", epoch=1)
        log.warning("worker ended", name="guest-0", text="a\x1b[2Jb\nc")
        fail_with_a_secret(lambda: foreign.exception("broke"))
        # A worker forked from a runner with a log of its own has the worker's context alone.
        run(logs, "guest-0", lambda _log: structlog.get_logger().warning("from the worker"))
        logs.configure_foreground(1, {"run": "run-7"}, shown.append)
        log.info("epoch ends")
        logs.configure_foreground(-1, {"run": "run-7"}, shown.append)
        log.warning("nobody is told")
    assert (root.handlers, root.level) == (handlers_before, level_before)

    assert shown[0] == "warning: worker ended name=guest-0 text=a\\x1b[2Jb\\nc"
    assert shown[1].startswith("error: broke\nTraceback")
    assert "ValueError: the visible reason" in shown[1]
    assert shown[2:] == ["info: epoch ends"]
    seen = [(record["worker"], record["event"]) for record in records(log_path)]
    assert seen == [
        ("runner", "epoch begins"),
        ("runner", "worker ended"),
        ("runner", "broke"),
        ("guest-0", "from the worker"),
        ("runner", "epoch ends"),
        ("runner", "nobody is told"),
    ]
    assert "hidden-value" not in log_path.read_text()


QUIET_RUNNER = """
import os, signal, sys, time
from pathlib import Path
import structlog
from pagesoak.engine.logs import WorkerLogs

logs = WorkerLogs(Path(sys.argv[1]))
for life in range(3):
    incarnation = logs.prepare("guest-0")
    pid = os.fork()
    if pid == 0:
        incarnation.attach_child({"run": "r"}, records_per_name_per_second=10**9)
        while True:
            structlog.get_logger().info("chatter", text="x" * 8000)
    incarnation.attach_parent()
    time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    incarnation.retire()
incarnation = logs.prepare("host")
if os.fork() == 0:
    log = incarnation.attach_child({"run": "r"})
    structlog.get_logger().info("goodbye")
    log.close()
    sys.exit(0)  # the whole way out, with every clean-up the interpreter knows
incarnation.attach_parent()
os.wait()
logs.close()
"""


def test_nothing_is_printed_and_the_interpreter_ends_cleanly(log_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET_RUNNER, str(log_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=WORKER_SECONDS_MAX,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(named(log_path, "goodbye")) == 1


def test_another_start_method_is_refused(log_path: Path) -> None:
    program = (
        "import multiprocessing, sys; multiprocessing.set_start_method('spawn')\n"
        "from pathlib import Path; from pagesoak.engine.logs import WorkerLogs\n"
        "from pagesoak.base.errors import HarnessError\n"
        "try: WorkerLogs(Path(sys.argv[1]))\n"
        "except HarnessError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(log_path)],
        capture_output=True,
        check=True,
        text=True,
        timeout=WORKER_SECONDS_MAX,
    )
    assert done.stdout == "worker logs need the start method 'fork', but 'spawn' is set\n"
    assert not log_path.exists()
