"""A real daemon for tests: `pagesoak serve` in a process of its own, with its socket and results
in a folder of the test, and everything it executes ended and seen dead whatever the test does.

Runs are of a small guest in plain Python, which starts in a second and needs no compiling.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pagesoak.daemon.client import Client
from tests.live_helper import Finished, command, environment, pagesoak, scenario_text

SLOW_TEST_SECONDS_MAX = 300
"""Of a test with daemons and runs of its own, where many other programs want the processors."""
START_SECONDS_MAX = 120.0
"""Of a daemon or a run, on a machine that does other things, too."""
END_SECONDS_MAX = 40.0
LOOK_SECONDS = 0.05
LOADS = ({"kind": "steady", "target": "2MiB", "rate": 100},)
LONG = scenario_text(loads=LOADS, duration="1h")
"""A run that goes on until somebody ends it."""


def wait_until(what: Callable[[], Any], seconds: float = START_SECONDS_MAX) -> Any:
    """What `what` gives once that is true; fails after so long."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(LOOK_SECONDS)
    return found


def descendants(pid: int) -> set[int]:
    """All processes below a process, as far as they live."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
    found, layer = set(), {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found |= layer
    return found


def is_there(pid: int) -> bool:
    """Whether a process lives: corpses do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Daemon:
    """`pagesoak serve` below `folder`; `more` goes into its configuration; `plain`: its
    runs need no compiler.
    """

    def __init__(
        self, folder: Path, more: str = "", metrics: bool = True, plain: bool = True
    ) -> None:
        self.folder = folder
        self.socket = folder / "s" / "control.sock"
        self.results = folder / "runs"
        self.config = folder / "daemon.toml"
        self._core = {"NUMBA_DISABLE_JIT": "1"} if plain else {}
        self._seen: set[int] = set()
        self._log = folder / "daemon.log"
        listen = '[metrics]\nlisten = "127.0.0.1:0"\n' if metrics else ""
        self.config.write_text(
            f'[control]\nsocket = "{self.socket}"\n'
            f'[runs]\ndirectory = "{self.results}"\n{more}{listen}'
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self, *options: str) -> None:
        """Start it, and wait until it says that it is there."""
        with self._log.open("ab") as log:
            begun = log.tell()
            self.process = subprocess.Popen(
                command("serve", "--config", self.config, "--allow-root", *options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(**self._core),
            )
        self._begun = begun
        wait_until(lambda: self.process.poll() is not None or self.said("daemon.started"))
        assert self.process.poll() is None, self._log.read_text()

    def said(self, event: str) -> list[dict[str, Any]]:
        """The records of one kind in the log of this life."""
        lines = self._log.read_bytes()[self._begun :].splitlines()
        records = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [record for record in records if record["event"] == event]

    @property
    def log_text(self) -> str:
        """All that was ever written to standard error."""
        return self._log.read_text()

    @property
    def port(self) -> int:
        """Where metrics are."""
        (started,) = self.said("daemon.started")
        match = re.search(r"127\.0\.0\.1:(\d+)", str(started["places"]))
        assert match
        return int(match[1])

    @property
    def client(self) -> Client:
        """A client of it."""
        return Client(str(self.socket))

    def cli(self, *arguments: str | Path) -> Finished:
        """`pagesoak ARGUMENTS` that finds this daemon."""
        return pagesoak(*arguments, NUMBA_DISABLE_JIT="1", PAGESOAK_SOCKET=str(self.socket))

    def run(self, name: str, text: str = LONG) -> dict[str, Any]:
        """Start a run and wait until its clock runs."""
        self.client.post("/v1/runs", {"run": name, "scenario_toml": text})
        wait_until(lambda: self.record(name)["state"] != "starting")
        return wait_until(lambda: self.record(name)["state"] == "running" and self.record(name))

    def record(self, name: str) -> dict[str, Any]:
        """What the daemon says of a run."""
        found = self.client.get(f"/v1/runs/{name}")
        self._seen |= descendants(self.process.pid)
        return found

    def http(self, port: int | None = None) -> socket.socket:
        """A connection of a client that does as it likes."""
        if port is not None:
            return socket.create_connection(("127.0.0.1", port), timeout=END_SECONDS_MAX)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.socket))
        connection.settimeout(END_SECONDS_MAX)
        return connection

    def ask(self, request: bytes, port: int | None = None) -> bytes:
        """The whole answer to some bytes."""
        with self.http(port) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def scrape(self, target: str = "/metrics") -> str:
        """What Prometheus would get."""
        request = f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
        return self.ask(request, self.port).partition(b"\r\n\r\n")[2].decode()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._seen |= descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_SECONDS_MAX)

    def workers(self) -> set[int]:
        """Processes that it has at this moment, and had when it was last looked at."""
        self._seen |= descendants(self.process.pid)
        return {pid for pid in self._seen if is_there(pid)}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        left = self.workers()
        for pid in (self.process.pid, *left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(END_SECONDS_MAX)
        wait_until(lambda: not self.workers(), END_SECONDS_MAX)
