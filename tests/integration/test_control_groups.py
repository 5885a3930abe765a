"""Memory and processes of the machine that run out, in real control groups: a guest that cannot
fit is refused before it starts; when memory is taken away later a worker dies, never the run or
the daemon; a run that gets no processes says so.

Making a group takes root and a controller that may be used; without them these are skipped.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pagesoak.base.memory import control_groups
from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, descendants, wait_until
from tests.live_helper import pagesoak, scenario_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

MIB = 1 << 20
ROOM_BYTES = 64 * MIB
"""More than the guest has: only while the neighbour is there is any memory short."""
CHECKOUT = Path(__file__).resolve().parents[2]
LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")
SWAP_FILES = ("memory.swap.max", "memory.memsw.limit_in_bytes")
USAGE_FILES = ("memory.current", "memory.usage_in_bytes")
NEIGHBOUR = """
import mmap, os, sys
from pagesoak.engine.machine_oom import MachineOom
memory = mmap.mmap(-1, int(sys.argv[2]))
with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
watch = MachineOom()
for at in range(0, len(memory), mmap.PAGESIZE):
    memory[at] = 1
    if watch.new_kills():
        memory.close()
        sys.exit()
sys.exit("nobody was killed")
"""


class Group:
    """A control group below the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limit = next(folder / name for name in LIMIT_FILES if (folder / name).exists())
        self._swap = [folder / name for name in SWAP_FILES]
        self._usage = next(folder / name for name in USAGE_FILES if (folder / name).exists())

    def enter(self) -> None:
        """The calling process, and those it starts, are in it from now on."""
        (self.folder / "cgroup.procs").write_text(f"{os.getpid()}\n")

    @property
    def usage_bytes(self) -> int:
        """What its processes hold now."""
        return int(self._usage.read_text())

    def limit(self, size_bytes: int) -> None:
        """No more than that from now on, and nothing of it swapped out.

        The limit of both together must not be below that of memory alone (version 1), so it is set
        before one that rises, and after one that falls.
        """
        for file in (self._limit, *self._swap, self._limit):
            if file.exists():
                with contextlib.suppress(OSError):
                    file.write_text("0\n" if file.name == "memory.swap.max" else f"{size_bytes}\n")
        assert int(self._limit.read_text()) <= size_bytes


@pytest.fixture
def group() -> Iterator[Group]:
    groups = control_groups(
        Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    )
    with made_group([ours for _, ours in groups], LIMIT_FILES) as folder:
        yield Group(folder)


@contextlib.contextmanager
def made_group(above: Sequence[Path], limits: Sequence[str]) -> Iterator[Path]:
    """A control group below the first of these that lets one be made with such a limit."""
    if os.geteuid() != 0:
        pytest.skip("only root makes a control group")
    for folder in (ours / f"pagesoak-test-{os.getpid()}" for ours in above):
        try:
            folder.mkdir()
        except OSError:
            continue
        if any((folder / file).exists() for file in limits):
            break
        folder.rmdir()
    else:
        pytest.skip(f"no control group with {limits[0]} can be made below this one")
    try:
        yield folder
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: not (folder / "cgroup.procs").read_text().split())
        wait_until(lambda: _removed(folder))


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def test_a_guest_that_the_control_group_has_no_room_for_is_refused(
    group: Group, tmp_path: Path
) -> None:
    group.limit(300 * MIB)
    scenario = tmp_path / "large.toml"
    scenario.write_text(scenario_text(memory="512MiB"))
    refused = pagesoak(
        "run",
        scenario,
        "--results",
        tmp_path / "results",
        prepare=group.enter,
        NUMBA_DISABLE_JIT="1",
    )
    assert refused.code == 2
    assert str(group.folder) in refused.err
    assert "MiB may be used" in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "results").exists()
    assert not (group.folder / "cgroup.procs").read_text().split()


def test_memory_that_is_taken_away_costs_a_worker_and_not_the_run(
    group: Group, tmp_path: Path
) -> None:
    """A neighbour in the group takes page after page until somebody is killed, and goes.

    Not more than that: if all workers together have less than what is wanted, the run is next.
    """
    with Daemon(tmp_path, metrics=False) as daemon:
        (group.folder / "cgroup.procs").write_text(f"{daemon.process.pid}\n")
        daemon.run("one", LONG)
        everybody = descendants(daemon.process.pid)
        listed = {int(pid) for pid in (group.folder / "cgroup.procs").read_text().split()}
        assert everybody <= listed
        (runner,) = (pid for pid in everybody if _parent(pid) == daemon.process.pid)
        for least, most in ((daemon.process.pid, runner), (runner, max(everybody - {runner}))):
            assert _score(least) < _score(most)
        time.sleep(1.0)
        group.limit(group.usage_bytes + ROOM_BYTES)
        enough = [group.folder / "cgroup.procs", str(2 * ROOM_BYTES)]
        subprocess.run([sys.executable, "-c", NEIGHBOUR, *enough], cwd=CHECKOUT, check=True)
        wait_until(lambda: sum(daemon.record("one")["figures"]["restarts"].values()))
        group.limit(4096 * MIB)
        before = daemon.record("one")["figures"]["frees"]
        wait_until(lambda: daemon.record("one")["figures"]["frees"] > before)
        assert daemon.process.poll() is None
        assert runner in descendants(daemon.process.pid)
        ended = daemon.cli("stop", "one", "--json").summary
        assert ended["verdict"] == "pass", ended
        events = (daemon.results / "one" / "events.jsonl").read_text()
        assert '"kind": "machine-oom"' in events
    assert "Traceback" not in daemon.log_text


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score").read_text())


def test_kills_of_the_group_are_told_from_those_before(group: Group) -> None:
    """With the kernel's own counts."""
    group.limit(32 * MIB)
    found = subprocess.run(
        [sys.executable, "-c", WATCH],
        preexec_fn=group.enter, capture_output=True, text=True, check=True, cwd=CHECKOUT,
    ).stdout.splitlines()  # fmt: skip
    assert found[0] == "0 "
    assert found[1].startswith("1 ; memory ran out: the kernel has killed 1 processes")
    assert str(group.folder) in found[1]
    assert found[2] == "0"


WATCH = """
import subprocess, sys
from pagesoak.engine.machine_oom import MachineOom, be_killed_sooner
watch = MachineOom()
print(watch.new_kills(), watch.in_words())
hog = [sys.executable, "-c", "bytearray(b'1') * (64 << 20)"]
assert subprocess.run(hog, preexec_fn=lambda: be_killed_sooner(900)).returncode == -9
print(watch.new_kills(), watch.in_words())
print(watch.new_kills())
"""


def test_a_system_that_grants_too_few_processes(tmp_path: Path) -> None:
    """However few they are: one line, nothing left, and the same run with enough."""
    ours = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    scenario = tmp_path / "small.toml"
    scenario.write_text(scenario_text())
    results = tmp_path / "results"
    with made_group(ours, ("pids.max",)) as folder:
        for most in (1, 3, 4, 5, 6, 8, 24):
            (folder / "pids.max").write_text(f"{most}\n")
            ended = pagesoak(
                "run", scenario, "--json", "--results", results,
                OPENBLAS_NUM_THREADS="1", NUMBA_DISABLE_JIT="1",
                prepare=lambda: (folder / "cgroup.procs").write_text(f"{os.getpid()}\n") and None,
            )  # fmt: skip
            assert "Traceback" not in ended.err, (most, ended.err)
            assert not (folder / "cgroup.procs").read_text().split()
            if ended.code == 0:
                break
            assert ended.code == 2, (most, ended.err)
            assert len(ended.messages) == 1, (most, ended.err)
            assert not results.exists()
    assert ended.summary["verdict"] == "pass"
    assert most >= 5
