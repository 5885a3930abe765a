"""What a real daemon says: of records it left out, of its configuration, and when it cannot start
or is to end before it has started.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.daemon_helper import SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import environment, pagesoak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

ORDERS = 400
"""Sent at once: many times what is written of one kind in a second."""
MISTAKES = "[runs]\nat_once_max = -1\nkeep_for = 7\n"


def test_orders_that_are_left_out_of_the_log_are_counted_in_silence_and_at_the_end(
    tmp_path: Path,
) -> None:
    with Daemon(tmp_path, metrics=False) as daemon:
        daemon.run("one")
        daemon.client.post("/v1/runs/one/stop")
        wait_until(lambda: daemon.record("one")["state"] == "ended")

        def told() -> int:
            dropped = sum(each["records"] for each in daemon.said("log.dropped"))
            return len(daemon.said("order")) - 2 + dropped  # but for the start and the stop above

        order_often(daemon)
        wait_until(lambda: told() == ORDERS)
        order_often(daemon)
        assert daemon.terminate() == 0
        assert told() == 2 * ORDERS
        assert daemon.said("log.dropped")


def order_often(daemon: Daemon) -> None:
    """Have the daemon do what it has done already, in requests that do not wait for answers."""
    head = "POST /v1/runs/one/stop HTTP/1.1\r\nHost: localhost\r\n"
    order = f"{head}Content-Type: application/json\r\nContent-Length: 0\r\n"
    orders = f"{order}\r\n" * (ORDERS - 1) + f"{order}Connection: close\r\n\r\n"
    assert daemon.ask(orders.encode()).count(b"HTTP/1.1 200") == ORDERS


def test_status_names_all_mistakes_of_a_configuration_in_a_line(tmp_path: Path) -> None:
    with Daemon(tmp_path, metrics=False) as daemon:
        daemon.config.write_text(MISTAKES)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.said("config.kept"))
        shown = daemon.cli("status").out
    (line,) = [line for line in shown.splitlines() if line.startswith("configuration")]
    assert f"; {daemon.config}:3: runs.keep_for" in line
    assert "\\n" not in line


def test_an_error_at_the_start_has_its_priority_for_the_journal(tmp_path: Path) -> None:
    config, log = tmp_path / "daemon.toml", tmp_path / "journal"
    config.write_text(MISTAKES)
    with log.open("wb") as journal:
        status = os.fstat(journal.fileno())

        def to_the_journal() -> None:
            os.dup2(journal.fileno(), 2)

        stream = f"{status.st_dev}:{status.st_ino}"
        for verb in (("serve", "--config", config), ("run", config)):
            done = pagesoak(*verb, prepare=to_the_journal, JOURNAL_STREAM=stream)
            assert done.code == 2
    lines = log.read_text().splitlines()
    assert [line.startswith("<3>") for line in lines[:2]] == [True, True]
    assert "runs.keep_for" in lines[1]
    assert lines[2:]
    assert not any(line.startswith("<") for line in lines[2:])  # the daemon's alone go there


SIGNALLED = """
import os, signal, sys, time

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == "pagesoak.daemon.service":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Signalling())
"""
"""SIGTERM while the daemon's modules are loaded."""


def test_sigterm_before_the_daemon_is_ready_ends_it_in_order(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, metrics=False)
    (tmp_path / "sitecustomize.py").write_text(SIGNALLED)
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    done = pagesoak("serve", "--config", daemon.config, "--allow-root", PYTHONPATH=path)
    assert done.code == 0, done.err
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert events == ["daemon.started", "daemon.ending", "daemon.ended"]
    assert not daemon.socket.exists()
