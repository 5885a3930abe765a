"""How much memory this process may still use: a guest that cannot fit is refused before it starts.

Touching more than a control group allows ends in SIGKILL without a word, and a guest that makes
its host swap measures nothing. So the least of three figures counts: `MemAvailable` of the
machine, what is left under every control group above the process (v1 and v2, up to the root), and
what `RLIMIT_AS` leaves. The functions that read texts are pure; only `memory_allowed` and
`limit_files` look at the machine.
"""

import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.base.units import KIB, MIB, PAGE_SIZE_BYTES

UNLIMITED_BYTES = (1 << 63) - 1
V1_UNLIMITED_FROM_BYTES = 1 << 62  # v1 prints "no limit" as the largest page-aligned number
DIGITS_MAX = 19  # a 64-bit number
TEXT_BYTES_MAX = 1 << 20  # no file read here comes near; bounds the reading


class MemoryAllowed(NamedTuple):
    """`bytes` may still be used; `source` names, for people, what sets that bound."""

    bytes: int
    source: str


class GroupFiles(NamedTuple):
    """What one memory control group says, as text by file name."""

    path: str
    texts: Mapping[str, str]


def memory_allowed(
    *,
    proc: Path = Path("/proc"),
    limit_as_bytes: int | None = None,
    page_size_bytes: int = PAGE_SIZE_BYTES,
) -> MemoryAllowed:
    """The least of what the machine, the control groups and `RLIMIT_AS` leave to this process.

    `proc` and `limit_as_bytes` (default: the soft limit of this process) are there for tests.
    Where nothing can be read, nothing limits: `UNLIMITED_BYTES`.
    """
    if limit_as_bytes is None:
        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        limit_as_bytes = UNLIMITED_BYTES if soft == resource.RLIM_INFINITY else soft
    bounds = [MemoryAllowed(UNLIMITED_BYTES, "no limit found")]
    available_bytes = mem_available_bytes(_text(proc / "meminfo"))
    if available_bytes is not None:
        bounds.append(MemoryAllowed(available_bytes, "MemAvailable in /proc/meminfo"))
    groups = limit_files(_text(proc / "self/cgroup"), _text(proc / "self/mountinfo"))
    bounds.extend(bound for bound in map(group_left, groups) if bound is not None)
    if limit_as_bytes < UNLIMITED_BYTES:
        used_bytes = address_space_bytes(_text(proc / "self/statm"), page_size_bytes)
        left_bytes = max(0, limit_as_bytes - used_bytes)
        bounds.append(MemoryAllowed(left_bytes, "RLIMIT_AS (ulimit -v)"))
    return min(bounds, key=lambda bound: bound.bytes)


def require_memory(needed_bytes: int, allowed: MemoryAllowed, what: str) -> None:
    """`InputError` naming both figures in MiB if `what` needs more than is allowed."""
    if needed_bytes <= allowed.bytes:
        return
    needed_mib = -(-needed_bytes // MIB)
    raise InputError(
        f"{what} needs {needed_mib} MiB, but only {allowed.bytes // MIB} MiB may be used"
        f" ({allowed.source}): choose a smaller guest, or set `touch = false` in [guest],"
        " which runs on metadata alone"
    )


def mem_available_bytes(meminfo: str) -> int | None:
    """`MemAvailable` of a /proc/meminfo text, in bytes; None where the line is not there."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name == "MemAvailable" and fields and fields[0].isdecimal():
            return int(fields[0]) * KIB
    return None


def address_space_bytes(statm: str, page_size_bytes: int = PAGE_SIZE_BYTES) -> int:
    """Address space in use, from /proc/self/statm (its first field, pages); 0 where unreadable."""
    fields = statm.split()
    return int(fields[0]) * page_size_bytes if fields and fields[0].isdecimal() else 0


def group_left(group: GroupFiles) -> MemoryAllowed | None:
    """What one control group leaves, None if it sets no limit.

    The limit is the lower of `memory.max` and `memory.high` (v1: `memory.limit_in_bytes`); beyond
    `high` a group is throttled, not killed, which would spoil a measurement as well. Usage counts
    without inactive file pages: the kernel drops those before it kills anybody.
    """
    limits = [
        limit_bytes
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if (limit_bytes := _number(group.texts.get(name, ""))) is not None
        and limit_bytes < V1_UNLIMITED_FROM_BYTES
    ]
    if not limits:
        return None
    used_bytes = (
        _number(group.texts.get("memory.current", ""))
        or _number(group.texts.get("memory.usage_in_bytes", ""))
        or 0
    )
    stat = dict(
        line.partition(" ")[::2] for line in group.texts.get("memory.stat", "").splitlines()
    )
    droppable_bytes = _number(stat.get("total_inactive_file", stat.get("inactive_file", ""))) or 0
    in_use_bytes = max(0, used_bytes - droppable_bytes)
    return MemoryAllowed(max(0, min(limits) - in_use_bytes), f"control group {group.path}")


def control_groups(
    cgroup: str, mountinfo: str, controller: str = "memory"
) -> list[tuple[Path, Path]]:
    """(mount point, directory of our group below it) of each hierarchy that may have a controller.

    `cgroup` is /proc/self/cgroup, `mountinfo` /proc/self/mountinfo. In a container the path of the
    group can lie outside of what is mounted; then the mount point itself is ours.
    """
    ours: dict[str, str] = {}
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            ours["cgroup2"] = path
        elif controller in controllers.split(","):
            ours["cgroup"] = path
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        _, _, _, root_field, mount_field, *_ = [*left.split(), *[""] * 5]
        kind, _, options, *_ = [*right.split(), *[""] * 3]
        if kind not in ours or (kind == "cgroup" and controller not in options.split(",")):
            continue
        root, mount = Path(_unescaped(root_field)), Path(_unescaped(mount_field))
        group = Path(ours[kind])
        below = group.relative_to(root) if group.is_relative_to(root) else Path()
        found.append((mount, mount if ".." in below.parts else mount / below))
    return found


def group_folders(cgroup: str, mountinfo: str, controller: str) -> Iterator[Path]:
    """Our control groups of a controller, from the innermost up to each mount point."""
    for mount, directory in control_groups(cgroup, mountinfo, controller):
        for folder in (directory, *directory.parents):
            yield folder
            if folder == mount:
                break


def limit_files(cgroup: str, mountinfo: str) -> Iterator[GroupFiles]:
    """The memory files of our control groups, from the innermost up to each mount point."""
    names = (
        *("memory.max", "memory.high", "memory.current"),
        *("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
    )
    for folder in group_folders(cgroup, mountinfo, "memory"):
        texts = {name: text for name in names if (text := _text(folder / name))}
        if texts:
            yield GroupFiles(str(folder), texts)


def _unescaped(field: str) -> str:
    """A path of mountinfo, where a space stands as a backslash and 040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _number(text: str) -> int | None:
    stripped = text.strip()
    return int(stripped) if stripped.isdecimal() and len(stripped) <= DIGITS_MAX else None


def _text(path: Path) -> str:
    """The text of a file, empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
