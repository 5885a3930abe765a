"""What of this machine would spoil a soak, looked up without changing anything.

Each check gives one finding: in order, to be known, or a reason why a soak would fail or measure
something else. Files are read below a root that a test can put elsewhere.
"""

import os
import resource
import stat
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.memory import MemoryAllowed, group_folders, memory_allowed
from pagesoak.base.units import GIB, MIB

MEMORY_BYTES_MIN = GIB
"""The smallest useful guest, 512 MiB, and what pagesoak itself needs."""
DESCRIPTORS_MIN = 256
"""A runner has some thirty, the daemon twenty, a connection and a run a few each."""
DISK_BYTES_MIN = GIB
"""The events of one long run may have 256 MiB."""
PROCESSES_MIN = 64
"""Some soaks of a few vCPUs each."""
GOOD_CLOCKS = frozenset({"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"})
"""Read without a system call."""
GOOD_SHMEM = frozenset({"never", "advise", "deny"})
"""Guest RAM is then of single pages, as punching expects."""
NO_OVERCOMMIT = "2"
"""Of vm.overcommit_memory: every mapping is charged whole."""
TEXT_BYTES_MAX = 1 << 16
"""Of a file of /proc or /sys."""


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """A soak works; its figures are to be read with this in mind."""
    BAD = "bad"
    """A soak would fail, or measure something else."""


class Finding(NamedTuple):
    """What one check found."""

    check: str
    level: Level
    text: str


class Place(NamedTuple):
    """Where results are to be kept."""

    results: Path
    is_daemons: bool = False
    """A daemon that runs keeps them there, perhaps as another user."""
    problem: str | None = None
    """Why that daemon does not store them at this moment, as it says."""


def examine(place: Place, *, root: Path = Path("/")) -> list[Finding]:
    """Every finding for a daemon that keeps its runs in `place`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        memory(memory_allowed(proc=root / "proc")),
        processors(len(os.sched_getaffinity(0)), processors_allowed(_groups(root, "cpu"))),
        descriptors(soft, hard),
        processes(
            resource.getrlimit(resource.RLIMIT_NPROC)[0], processes_left(_groups(root, "pids"))
        ),
        huge_pages(_text(root / "sys/kernel/mm/transparent_hugepage/shmem_enabled")),
        swap(_text(root / "proc/meminfo")),
        overcommit(_text(root / "proc/sys/vm/overcommit_memory")),
        clock(_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")),
        disk(place),
    ]


def memory(allowed: MemoryAllowed) -> Finding:
    """Whether a guest fits."""
    text = f"{allowed.bytes // MIB:,} MiB may be used ({allowed.source})"
    level = Level.OK if allowed.bytes >= MEMORY_BYTES_MIN else Level.BAD
    return Finding("memory", level, text)


def processors_allowed(groups: list[Path]) -> float | None:
    """The least that control groups allow, by their quota of each period; None without one."""
    shares = []
    for folder in groups:
        words = _text(folder / "cpu.max").split() or [
            *_text(folder / "cpu.cfs_quota_us").split(),
            *_text(folder / "cpu.cfs_period_us").split(),
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words):  # noqa: PLR2004 - quota and period
            shares.append(int(words[0]) / max(int(words[1]), 1))
    return min(shares, default=None)


def processes_left(groups: list[Path]) -> int | None:
    """How many processes and threads control groups still allow; None without a limit."""
    left = []
    for folder in groups:
        most, now = _text(folder / "pids.max").strip(), _text(folder / "pids.current").strip()
        if most.isdecimal() and now.isdecimal():
            left.append(max(int(most) - int(now), 0))
    return min(left, default=None)


def processors(count: int, allowed: float | None) -> Finding:
    """Whether processes that contend for a lock can run at one time."""
    if allowed is not None and allowed < count:
        said = f"{count}, of which the control group allows {allowed:.1f}: it stops all at times"
        return Finding("processors", Level.NOTE, said)
    if count == 1:
        said = "one: who holds a lock and who waits for it never run at one time"
        return Finding("processors", Level.NOTE, said)
    return Finding("processors", Level.OK, str(count))


def descriptors(soft: int, hard: int) -> Finding:
    """Whether files and connections can be opened."""
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS_MIN:
        if hard == resource.RLIM_INFINITY or hard >= DESCRIPTORS_MIN:
            most = "unlimited" if hard == resource.RLIM_INFINITY else hard
            remedy = f"`ulimit -n {most}` allows more"
        else:
            remedy = (
                f"the hard limit is {hard}: raise it with LimitNOFILE= of a service, or nofile "
                "in /etc/security/limits.conf, and log in again"
            )
        said = f"{soft} may be open, {DESCRIPTORS_MIN} are needed; {remedy}"
        return Finding("descriptors", Level.BAD, said)
    return Finding("descriptors", Level.OK, f"{soft} may be open")


def processes(soft: int, left: int | None) -> Finding:
    """Whether workers can be forked; `left` is what control groups still allow."""
    if left is not None and left < PROCESSES_MIN:
        said = f"the control group allows {left} more, {PROCESSES_MIN} are needed (pids.max)"
        return Finding("processes", Level.BAD, said)
    if soft != resource.RLIM_INFINITY and soft < PROCESSES_MIN:
        said = f"this user may have {soft}, {PROCESSES_MIN} are needed (`ulimit -u`)"
        return Finding("processes", Level.BAD, said)
    shown = "no limit" if soft == resource.RLIM_INFINITY else f"this user may have {soft}"
    return Finding("processes", Level.OK, shown)


def huge_pages(shmem_enabled: str) -> Finding:
    """Whether guest RAM consists of single pages."""
    chosen = shmem_enabled.partition("[")[2].partition("]")[0]
    if chosen and chosen not in GOOD_SHMEM:
        said = (
            f"shared memory takes huge pages ({chosen}): a punch splits them, which takes time "
            "that is none of the guest's"
        )
        return Finding("huge pages", Level.NOTE, said)
    return Finding("huge pages", Level.OK, f"not for shared memory ({chosen or 'not there'})")


def swap(meminfo: str) -> Finding:
    """Whether the machine may take a guest's pages away."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name == "SwapTotal" and rest.split()[:1] not in ([], ["0"]):
            kib = int(rest.split()[0])
            said = f"{kib >> 10:,} MiB: a guest that is swapped out measures the disk"
            return Finding("swap", Level.NOTE, said)
    return Finding("swap", Level.OK, "none")


def overcommit(mode: str) -> Finding:
    """Whether mappings that are never filled cost something."""
    if mode.strip() == NO_OVERCOMMIT:
        said = "vm.overcommit_memory = 2: every mapping is charged whole, and may be refused"
        return Finding("overcommit", Level.NOTE, said)
    return Finding("overcommit", Level.OK, f"vm.overcommit_memory = {mode.strip() or 'unknown'}")


def clock(source: str) -> Finding:
    """Whether asking for the time is cheap."""
    name = source.strip()
    if name and name not in GOOD_CLOCKS:
        said = f"{name}: each look at the clock is a system call, and windows look longer"
        return Finding("clock", Level.NOTE, said)
    return Finding("clock", Level.OK, name or "unknown")


def disk(place: Place) -> Finding:
    """Whether results can be kept. What a daemon may write to, it knows better than its caller,
    who may be another user.
    """
    results, folder = place.results, place.results
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not _may_be_folder(folder):
        said = f"{folder} is no folder: no results are kept; move it away, or choose another place"
        return Finding("disk", Level.BAD, f"{said} (runs.directory of the configuration)")
    if not place.is_daemons and not os.access(folder, os.W_OK | os.X_OK):
        return Finding("disk", Level.BAD, f"{folder} cannot be written to: no results are kept")
    try:
        status = os.statvfs(results if place.is_daemons else folder)
    except OSError as error:
        said = f"{results} cannot be looked at from here: {error.strerror}"
        level = Level.BAD if place.problem else Level.NOTE
        return Finding("disk", level, place.problem or said)
    free_bytes = status.f_bavail * status.f_frsize
    text = f"{free_bytes // MIB:,} MiB free for {results}"
    if problem := place.problem or ("read-only" if status.f_flag & os.ST_RDONLY else None):
        return Finding("disk", Level.BAD, f"{problem}; {text}")
    return Finding("disk", Level.OK if free_bytes >= DISK_BYTES_MIN else Level.BAD, text)


def _may_be_folder(path: Path) -> bool:
    """Whether it is a folder, as far as this user may know."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def _groups(root: Path, controller: str) -> list[Path]:
    """Our control groups of a controller, below a root that a test can put elsewhere."""
    cgroup, mountinfo = (_text(root / "proc/self" / name) for name in ("cgroup", "mountinfo"))
    folders = group_folders(cgroup, mountinfo, controller)
    return [root / folder.relative_to("/") for folder in folders]


def _text(file: Path) -> str:
    """A file of the kernel; empty where there is none."""
    try:
        with file.open("rb") as opened:
            return opened.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
