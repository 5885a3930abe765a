"""The daemon under a service manager: what it tells, what it is passed, and what it may not do."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesoak.daemon.client import Client
from tests.daemon_helper import END_SECONDS_MAX, LONG, SLOW_TEST_SECONDS_MAX, wait_until
from tests.live_helper import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

EXECUTE = """
import os, sys
passed = [int(number) for number in sys.argv[1].split()]
for number, descriptor in enumerate(passed):
    os.dup2(descriptor, 100 + number)
for number in range(len(passed)):
    os.dup2(100 + number, 3 + number)
if passed:
    os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] = str(len(passed)), str(os.getpid())
os.execv(sys.executable, [sys.executable, "-P", "-m", "pagesoak", *sys.argv[2:]])
"""
"""A service manager's child before it becomes the daemon: its process is the daemon's."""
SERVE = ("serve", "--allow-root")
WATCHDOG_SECONDS = 2


class Managed:
    """A daemon below `folder`, told of a notify socket and passed `listeners` from 3 on."""

    def __init__(self, folder: Path, *listeners: socket.socket, **variables: str) -> None:
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.setblocking(False)
        self.told: list[str] = []
        self.path = folder / "control.sock"
        self.log = folder / "log"
        places = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000),
            "STATE_DIRECTORY": str(folder / "state"),
            "RUNTIME_DIRECTORY": str(folder),
        }

        passed = [listener.fileno() for listener in listeners]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", EXECUTE, " ".join(map(str, passed)), *SERVE],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(NUMBA_DISABLE_JIT="1", **places, **variables),
                pass_fds=passed,
            )

    def heard(self, line: str) -> bool:
        """Whether the daemon has told this, up to now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told += self.notify.recv(1 << 16).decode().splitlines()
        return line in self.told

    def end(self) -> None:
        """Whatever happened, nothing stays."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(END_SECONDS_MAX)
        self.notify.close()


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Managed]:
    daemon = Managed(tmp_path)
    yield daemon
    daemon.end()


def test_the_service_manager_hears_of_its_life_from_ready_to_stopping(managed: Managed) -> None:
    wait_until(lambda: managed.heard("READY=1"))
    wait_until(lambda: managed.heard("STATUS=0 runs going on"))
    wait_until(lambda: managed.heard("WATCHDOG=1"))
    managed.told.clear()
    managed.process.send_signal(signal.SIGHUP)
    wait_until(lambda: managed.heard("READY=1"))
    assert managed.told.index("RELOADING=1") < managed.told.index("READY=1")
    managed.process.send_signal(signal.SIGTERM)
    assert managed.process.wait(END_SECONDS_MAX) == 0
    assert managed.heard("STOPPING=1")
    assert not managed.path.exists()


def test_a_sign_of_life_comes_only_while_the_workers_get_on(managed: Managed) -> None:
    wait_until(lambda: managed.heard("READY=1"))
    client = Client(str(managed.path))
    client.post("/v1/runs", {"run": "one", "scenario_toml": LONG})
    record: dict[str, Any] = {}

    def running() -> bool:
        record.update(client.get("/v1/runs/one"))
        return bool(record["state"] == "running")

    wait_until(running)
    managed.told.clear()
    wait_until(lambda: managed.heard("WATCHDOG=1"))
    os.kill(record["pid"], signal.SIGSTOP)
    try:
        wait_until(lambda: any("not heard from" in line for line in _all(managed)))
        managed.heard("")
        managed.told.clear()
        time.sleep(2 * WATCHDOG_SECONDS)
        assert not managed.heard("WATCHDOG=1")
        os.kill(record["pid"], signal.SIGCONT)
        wait_until(lambda: managed.heard("WATCHDOG=1"))
    finally:
        os.kill(record["pid"], signal.SIGCONT)
    managed.process.send_signal(signal.SIGTERM)
    assert managed.process.wait(END_SECONDS_MAX) == 0


def _all(managed: Managed) -> list[str]:
    managed.heard("")
    return managed.told


def test_sockets_that_are_passed_are_used_and_left_where_they_are(tmp_path: Path) -> None:
    control, metrics = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)
    with control, metrics:
        path = tmp_path / "of-the-manager.sock"
        control.bind(str(path))
        control.listen()
        metrics.bind(("127.0.0.1", 0))
        metrics.listen()
        daemon = Managed(tmp_path, control, metrics)
        try:
            wait_until(lambda: daemon.heard("READY=1"))
            client = Client(str(path))
            assert client.get("/v1/status")["socket"] == str(path)
            with socket.create_connection(metrics.getsockname(), END_SECONDS_MAX) as asked:
                asked.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                assert b'"ok"' in b"".join(iter(lambda: asked.recv(1 << 16), b""))
            daemon.process.send_signal(signal.SIGHUP)
            wait_until(lambda: daemon.heard("RELOADING=1"))
            assert client.get("/v1/status")["config_problem"] is None
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(END_SECONDS_MAX) == 0
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert not daemon.path.exists()
        finally:
            daemon.end()


def test_a_passed_socket_that_everybody_reaches_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET) as everywhere:
        everywhere.bind(("0.0.0.0", 0))  # noqa: S104 - to see it refused
        everywhere.listen()
        daemon = Managed(tmp_path, everywhere)
        try:
            assert daemon.process.wait(END_SECONDS_MAX) == 2
            assert "only 127.0.0.1" in daemon.log.read_text()
        finally:
            daemon.end()


def test_the_configuration_is_found_where_the_manager_puts_it(tmp_path: Path) -> None:
    (tmp_path / "daemon.toml").write_text("[runs]\nat_once_max = 3\n")
    daemon = Managed(tmp_path, CONFIGURATION_DIRECTORY=str(tmp_path))
    try:
        wait_until(lambda: daemon.heard("READY=1"))
        found = Client(str(daemon.path)).get("/v1/status")
        assert found["config"] == str(tmp_path / "daemon.toml")
    finally:
        daemon.end()


# ---- what the units forbid ----

RESTRICTED = """
import ctypes, os, resource, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 24, 38, 2
for capability in range(64):
    libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
assert libc.capset(header, none) == 0
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.umask(0o077)
# x86-64: mount, umount2, ptrace, chroot, pivot_root, reboot, init_module, swapon, settimeofday,
# unshare, setns, kexec_load, bpf, sched_setaffinity, setpriority.
DENIED = (165, 166, 101, 161, 155, 169, 175, 167, 164, 272, 308, 246, 321, 203, 141)
LOAD_NUMBER, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050001
if os.uname().machine == "x86_64":
    code = [(LOAD_NUMBER, 0, 0, 0)]
    for index, number in enumerate(DENIED):
        code.append((EQUAL, len(DENIED) - index, 0, number))
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, EPERM)]
    raw = b"".join(struct.pack("=HBBI", *each) for each in code)
    buffer = ctypes.create_string_buffer(raw)
    program = struct.pack("@HxxxxxxP", len(code), ctypes.addressof(buffer))
    assert libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0) == 0
    try:
        os.unshare(0x20000000) if hasattr(os, "unshare") else os.setpriority(0, 0, 1)
    except PermissionError:
        pass
    else:
        sys.exit("the filter is not there")
import numba
@numba.njit(cache=sys.argv[1] == "cached")
def total(n):
    found = 0
    for i in range(n):
        found += i * i
    return found
print(total(1000))
"""


@pytest.mark.parametrize("cache", ["cached", "read-only"])
def test_a_function_is_compiled_under_the_restrictions_of_the_units(
    tmp_path: Path, cache: str
) -> None:
    script = tmp_path / "restricted.py"
    script.write_text(RESTRICTED)
    folder = tmp_path / "cache"
    folder.mkdir()
    if cache == "read-only":
        folder.chmod(0o500)
    done = subprocess.run(
        [sys.executable, str(script), cache],
        env=environment(NUMBA_DISABLE_JIT="0", NUMBA_CACHE_DIR=str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(sum(i * i for i in range(1000))), done.stderr
    assert bool(list(folder.rglob("*.nbi"))) is (cache == "cached")
