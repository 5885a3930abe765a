"""Real runs of `pagesoak run` for tests: start one, look into it while it lives, see how it ends.

`run_scenario_text` runs a scenario to its end. `LiveRun` is one that goes on while the test looks:
its processes by name, and its shared memory, which is mapped through the runner's descriptors in
/proc, so that a test can read it, or commit a crime in it. Every process a test starts is ended
and seen dead, whatever the test does.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pagesoak.base import layout
from pagesoak.base.native import PLAIN
from pagesoak.base.scenario_file import toml_text
from pagesoak.base.segment import Segment, SharedFile
from tests.treefiles import ROOT

RUN_SECONDS_MAX = 90.0
"""No run of these tests takes half as long; only a hang takes longer."""
COMPILE_SECONDS_MAX = 600.0
LOOK_SECONDS = 0.01
COMPILING = ("pagesoak: compiling the core", "pagesoak: the core is compiled")
"""How the lines begin that stderr may have besides messages."""
ALONE = "import sys; from pagesoak.cli.main import main; sys.exit(main())"
"""The program that a sabotage goes before."""


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The object on the last line of stdout, which must be all there is."""
        assert self.out.count("\n") == 1, f"stdout: {self.out!r}\nstderr: {self.err}"
        assert self.out.endswith("\n")
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def directory(self) -> Path:
        """The run's directory."""
        return Path(self.summary["directory"])

    @property
    def messages(self) -> list[str]:
        """The lines of stderr but for the notice about compiling."""
        return [line for line in self.err.splitlines() if not line.startswith(COMPILING)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind, in the order they were written."""
        lines = (self.directory / "events.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["kind"] == kind]


def environment(**more: str) -> dict[str, str]:
    """The test's own, with pagesoak from this checkout and no terminal."""
    unwanted = ("FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | more


def command(*arguments: str | Path, sabotage: str = "") -> list[str]:
    """`pagesoak ARGUMENTS`; a `sabotage` is Python that is run in it first."""
    start = ["-c", f"{sabotage}\n{ALONE}"] if sabotage else ["-m", "pagesoak"]
    return [sys.executable, *start, *map(str, arguments)]


def compile_core() -> None:
    """Have the core compiled before something is timed or looked at; one process does it."""
    with (ROOT / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            command("compile"), env=environment(), check=True, capture_output=True,
            timeout=COMPILE_SECONDS_MAX,
        )  # fmt: skip


def pagesoak(
    *arguments: str | Path,
    sabotage: str = "",
    cwd: Path | None = None,
    prepare: Callable[[], None] | None = None,
    **more: str,
) -> Finished:
    """Run pagesoak to its end; `prepare` is called in the child before, `more` is environment."""
    began = time.monotonic()
    with subprocess.Popen(
        command(*arguments, sabotage=sabotage),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
        cwd=cwd,
        preexec_fn=prepare,  # noqa: PLW1509 - the test process has no other thread that matters
    ) as process:
        try:
            out, err = process.communicate(timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Finished(process.returncode, out, err, time.monotonic() - began)


def scenario_text(
    loads: Sequence[Mapping[str, Any]] = ({"kind": "idle"},),
    *,
    memory: str | None = "32MiB",
    duration: str = "1s",
    seed: int = 1,
    guest: Mapping[str, Any] = {},
    **tables: Mapping[str, Any],
) -> str:
    """A scenario file. The default guest is small, and reports from order 5 on after 50 ms, so
    that a second holds many reports.
    """
    reporting = {"order": 5, "delay": "50ms"} | dict(tables.pop("reporting", {}))
    size = {} if memory is None else {"memory": memory}
    return toml_text(
        {
            "name": "planted",
            "duration": duration,
            "seed": seed,
            "guest": size | dict(guest),
            "reporting": reporting,
            **tables,
            "load": list(loads),
        }
    )


def write_scenario(folder: Path, text: str) -> Path:
    """The scenario as a file."""
    path = folder / "planted.toml"
    path.write_text(text)
    return path


def run_scenario_text(folder: Path, text: str, *arguments: str, sabotage: str = "") -> Finished:
    """Run a scenario to its end with `--json`; its results go below `folder`."""
    return pagesoak(
        "run", write_scenario(folder, text), "--json", "--results", folder / "results",
        *arguments, sabotage=sabotage,
    )  # fmt: skip


def process_name(pid: int) -> str:
    """The name in /proc/PID/comm; empty when there is no such process, or only its corpse."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, _, rest = status.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] in "ZX" else name


def children(pid: int) -> dict[str, int]:
    """The living children of a process, by name."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return {}
    return {name: int(child) for child in listed if (name := process_name(int(child)))}


def await_true(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait until a condition holds; the test fails when it does not come to."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not seen within {seconds:.0f} s: {what}"
        time.sleep(LOOK_SECONDS)


class LiveRun:
    """A run of the scenario `text` that goes on while the test looks; `as_json` says whether it
    prints its summary as JSON.
    """

    def __init__(
        self, folder: Path, text: str, *arguments: str, sabotage: str = "", as_json: bool = True
    ) -> None:
        path = write_scenario(folder, text)
        self.results = folder / "results"
        if as_json:
            arguments += ("--json",)
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            command("run", path, "--results", self.results, *arguments, sabotage=sabotage),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
        self.pid = self.process.pid
        self.seen: set[int] = set()
        self._segment: Segment | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._segment is not None:
            self._segment.close()
        self.workers()
        self.process.kill()
        self.process.communicate()
        for pid in self.seen:
            if process_name(pid).startswith("soak-"):
                os.kill(pid, signal.SIGKILL)

    def workers(self) -> dict[str, int]:
        """The living workers, by name; those seen once are looked for at the end."""
        found = {name: pid for name, pid in children(self.pid).items() if name.startswith("soak-")}
        self.seen.update(found.values())
        return found

    def await_workers(self, *names: str) -> dict[str, int]:
        """Wait until these workers live, and no others; returns them."""
        await_true(lambda: set(self.workers()) == set(names), f"the workers {names}")
        return self.workers()

    def descriptor(self, name: str) -> Path:
        """The /proc path of a descriptor of a memory file (`pagesoak-segment`, ...)."""
        folder = Path(f"/proc/{self.pid}/fd")
        target = Path(f"/memfd:{name} (deleted)")
        for entry in folder.iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if entry.readlink() == target:
                    return entry
        raise AssertionError(f"process {self.pid} has no {name}")

    @property
    def segment(self) -> Segment:
        """The run's segment, mapped here too; to be asked for when workers have been seen."""
        if self._segment is None:
            descriptor = os.open(self.descriptor("pagesoak-segment"), os.O_RDWR | os.O_CLOEXEC)
            self._segment = Segment.attach(descriptor)
        return self._segment

    @contextmanager
    def guest_ram(self) -> Iterator[memoryview]:
        """The bytes of guest RAM, mapped here too."""
        path = self.descriptor("pagesoak-guest-ram")
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        ram = SharedFile("pagesoak-guest-ram", os.fstat(descriptor).st_size, descriptor)
        try:
            with ram.view() as view:
                yield view
        finally:
            ram.close()

    def await_started(self) -> None:
        """Wait until the soak's clock runs."""
        await_true(self.workers, "a worker")
        await_true(lambda: self.segment.header[layout.H_STARTED_AT_NS], "the soak's start")

    def signal(self, number: int) -> None:
        """Send the runner a signal."""
        self.process.send_signal(number)

    def finish(self) -> Finished:
        """Wait for its end; no process of it may be left."""
        self.workers()
        out, err = self.process.communicate(timeout=RUN_SECONDS_MAX)
        left = {pid: name for pid in self.seen if (name := process_name(pid))}
        assert not left, f"processes are left: {left}"
        seconds = time.monotonic() - self._began
        return Finished(self.process.returncode, out, err, seconds)


def all_names(cpus: int) -> tuple[str, ...]:
    """The workers of a run with reporting."""
    return ("soak-host", "soak-reporter", *(f"soak-guest-{cpu}" for cpu in range(cpus)))


MODE = "plain" if PLAIN else "compiled"
