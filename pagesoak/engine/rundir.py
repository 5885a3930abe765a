"""The directory of a run: everything that is known about one run, readable with everyday tools.

=====================  ===============================================================
`scenario.toml`        the scenario as it was run: resolved, every default spelled out
`run.json`             what ran where: versions, kernel, CPUs, the command
`events.jsonl`         what happened, one object per line (`event_log`)
`series.csv`           samples over time (`series`)
`worker.log.jsonl`     the workers' logs (`logs`)
`summary.json`         the figures and the verdict, written last
`evidence/`            only after a breach of a harness invariant
=====================  ===============================================================

The directory is the truth about a run; any index of runs is made from it. It is its owner's
alone (mode 0700). Times are handed in, as seconds since the epoch; nothing here reads a clock or
the environment.
"""

import fcntl
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from pagesoak import __version__
from pagesoak.base.errors import HarnessError, InputError, PagesoakError
from pagesoak.engine.event_log import EventLog
from pagesoak.engine.line import Unstored
from pagesoak.engine.run_files import replace_file
from pagesoak.engine.run_sample import RunSample
from pagesoak.engine.series import Series

DEFAULT_RESULTS_ROOT = Path("pagesoak-results")

RUN_FORMAT = (
    1  # of run.json and of what lies beside it; raised when a reader must know of a change
)

DIRECTORY_MODE = 0o700
NAME_PART_CHARS_MAX = 40  # three parts and a time stay well below the 255 bytes of a file name
SAME_NAME_MAX = 1_000  # runs of one scenario, policy and seed begun within one second


def run_name(started: float, scenario: str, policy: str, seed: int) -> str:
    """The name of a run's directory: `20260314T150926Z-seed-512m-mainline-42`."""
    return stamped_name(started, scenario, policy, str(seed))


def stamped_name(started: float, *parts: str) -> str:
    """A name that begins with a time, in seconds since the epoch; then the parts."""
    time = datetime.fromtimestamp(started, UTC).strftime("%Y%m%dT%H%M%SZ")
    return "-".join([time, *map(name_part, parts)])


def name_part(text: str) -> str:
    """`text` with everything but letters, digits, dot, underscore and dash replaced."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")
    return plain[:NAME_PART_CHARS_MAX].rstrip(".-") or "unnamed"


class RunDirectory:
    """One run's directory; made by `create`."""

    def __init__(self, path: Path, started: float, made_above: tuple[Path, ...]) -> None:
        self.path = path
        self._started = started
        self._made_above = made_above
        # Who looks from outside (`is_alive`) tells by this lock, which ends with its last holder,
        # whether a run without a summary goes on or was killed.
        self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._series: Series | None = None
        self._events = EventLog(path / "events.jsonl")

    @classmethod
    def create(
        cls,
        results_root: Path,
        *,
        started: float,
        scenario: str,
        policy: str,
        seed: int,
        name: str | None = None,
    ) -> "RunDirectory":
        """Make the directory of a new run below `results_root`, and the root where it is missing.
        A `name` that was given is taken as it is; one that is made up never meets another.

        Raises:
            InputError: the results cannot go there; nothing is left behind.
        """
        if name is None:
            made_up = run_name(started, scenario, policy, seed)
            path, made = new_directory(results_root, made_up)
        else:
            path, made = new_directory(results_root, name, exactly=True)
        return cls(path, started, made)

    @staticmethod
    def label(seconds: float) -> str:
        """A time as results give it, `2026-03-14T15:09:26+00:00`, from seconds since the epoch."""
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    @property
    def unstored(self) -> Unstored:
        """Lines that wait and lines that are lost: events, and rows of the series."""
        waiting, lost = self.events_waiting, self.events_lost
        if self._series is not None:
            waiting, lost = waiting + self._series.waiting, lost + self._series.lost
        return Unstored(waiting, lost)

    @property
    def started(self) -> str:
        """When the run started, or was ordered, as results give it."""
        return self.label(self._started)

    @property
    def run(self) -> str:
        """The run's name, which is that of its directory."""
        return self.path.name

    @property
    def worker_log(self) -> Path:
        """Where the workers' logs go."""
        return self.path / "worker.log.jsonl"

    @property
    def summary(self) -> Path:
        """The summary; a run without it has not ended, or ended uncleanly."""
        return self.path / "summary.json"

    @property
    def evidence(self) -> Path:
        """What a breach leaves to be looked at; not there as long as there was none."""
        return self.path / "evidence"

    @property
    def events_lost(self) -> int:
        """Events that will never be in the file: the disk refused them, or the file is full."""
        return self._events.lost

    @property
    def events_waiting(self) -> int:
        """Events that wait in memory for a disk that refuses; tried again at each look."""
        return self._events.pending

    def write_scenario(self, text: str) -> None:
        """Keep the scenario as it was given."""
        self._replace(self.path / "scenario.toml", text)

    def write_identity(
        self, *, command: Sequence[str], core: str, guest: Mapping[str, object]
    ) -> None:
        """Keep what ran where.

        `core` says how the core runs, "compiled" or "plain"; `guest` what it models.
        """
        fields = {
            "format": RUN_FORMAT,
            "run": self.run,
            "started": self.started,
            "pagesoak": __version__,
            "core": core,
            "numba": "plain" if core == "plain" else version("numba"),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "kernel": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "host_cpus": len(os.sched_getaffinity(0)),
            "command": list(command),
            "guest": dict(guest),
        }
        self._replace(self.path / "run.json", json.dumps(fields, indent=2) + "\n")

    def write_event(
        self, monotonic_ns: int, worker: int, kind: str, fields: Mapping[str, object]
    ) -> None:
        """Take in one event, as `event_log` says. A full disk is no error here.

        `fields` hold what JSON has words for, under names of their own. Events the disk refused
        are kept for later, then counted in `events_lost`.
        """
        event = {"monotonic_ns": monotonic_ns, "worker": worker, "kind": kind, **fields}
        self._events.append(monotonic_ns, worker, kind, json.dumps(event, allow_nan=False))

    def write_sample(self, sample: RunSample) -> None:
        """Add a sample to the run's series. A full disk is no error here."""
        if self._series is None:
            self._series = Series(self.path / "series.csv")
        self._series.add(sample)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Keep the summary: whole and on the disk, or not at all.

        Raises:
            PagesoakError: it cannot be written.
        """
        write_summary_file(self.path, summary)

    def close(self) -> None:
        """Write what still waits, and give up the files."""
        if self._series is not None:
            self._series.close()
        self._events.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

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

    def remove(self) -> None:
        """Take the directory away again: for a run that never started.

        Raises:
            HarnessError: the run has a summary or evidence, which nobody may throw away.
        """
        for kept in (self.summary, self.evidence):
            if kept.exists():
                raise HarnessError(f"a run with results is not removed: {kept}")
        self.close()
        shutil.rmtree(self.path)
        remove_empty(self._made_above)

    def _replace(self, path: Path, text: str) -> None:
        _replace_file(path, text)


def write_summary_file(directory: Path, summary: Mapping[str, object]) -> None:
    """Keep the summary of the run in a directory: whole and on the disk, or not at all.

    Raises:
        PagesoakError: it cannot be written.
    """
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    _replace_file(directory / "summary.json", text)


def _replace_file(path: Path, text: str) -> None:
    try:
        replace_file(path, text)
    except OSError as error:
        raise PagesoakError(f"{path}: cannot be written: {error.strerror}") from error


def new_directory(
    root: Path, name: str, *, exactly: bool = False
) -> tuple[Path, tuple[Path, ...]]:
    """A directory of that name below `root`, with a number where there is one already, or,
    `exactly` that one; and what was missing above it and was made, outermost first.

    Raises:
        InputError: the results cannot go there; nothing is left behind.
    """
    made: list[Path] = []
    try:
        _make_missing(root, made)
        path = _make(root / name) if exactly else _make_unique(root, name)
        return path, tuple(made)
    except OSError as error:
        remove_empty(made)
        reason = error.strerror or str(error)
        raise InputError(f"results cannot be kept here: {reason}", file=root) from error


def is_alive(path: Path) -> bool:
    """Whether somebody still runs the run in this directory."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make_missing(root: Path, made: list[Path]) -> None:
    """Make `root` and what is missing above it, noting what was made, outermost first."""
    missing = []
    folder = root
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        made.append(folder)


def _make(path: Path) -> Path:
    path.mkdir(mode=DIRECTORY_MODE)
    path.chmod(DIRECTORY_MODE)  # whatever the umask took away or the parent's ACL added
    return path


def _make_unique(root: Path, name: str) -> Path:
    for number in range(1, SAME_NAME_MAX + 1):
        try:
            return _make(root / (name if number == 1 else f"{name}-{number}"))
        except FileExistsError:
            continue
    raise FileExistsError(17, f"{SAME_NAME_MAX} runs named {name}")


def remove_empty(folders: list[Path] | tuple[Path, ...]) -> None:
    """Remove folders, innermost first, as far as nobody else has put something there."""
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            return
