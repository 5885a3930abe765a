"""Memory allowed: texts of /proc and of control groups, and the least of all bounds."""

from pathlib import Path

import pytest

from pagesoak.base.errors import InputError
from pagesoak.base.memory import (
    UNLIMITED_BYTES,
    GroupFiles,
    MemoryAllowed,
    address_space_bytes,
    control_groups,
    group_left,
    limit_files,
    mem_available_bytes,
    memory_allowed,
    require_memory,
)
from pagesoak.base.units import GIB, KIB, MIB

MEMINFO = "MemTotal:       24684084 kB\nMemFree:  24463996 kB\nMemAvailable:   2048000 kB\n"
V2_MOUNT = "30 23 0:26 / {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / {mount}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / {mount}/memory rw,relatime - cgroup cgroup rw,memory\n"
)
V1_UNLIMITED = "9223372036854771712\n"


def write(folder: Path, **texts: str) -> None:
    """Files named by keyword, where `__` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)


def proc_with(
    root: Path, *, cgroup: str = "", mountinfo: str = "", meminfo: str = MEMINFO
) -> Path:
    proc = root / "proc"
    write(proc, meminfo=meminfo)
    write(proc / "self", cgroup=cgroup, mountinfo=mountinfo, statm="1000 500 200 1 0 300 0\n")
    return proc


def test_meminfo() -> None:
    assert mem_available_bytes(MEMINFO) == 2_048_000 * KIB
    assert mem_available_bytes("MemTotal: 5 kB\n") is None
    assert mem_available_bytes("MemAvailable:\nMemAvailable: x kB\n") is None


def test_address_space() -> None:
    assert address_space_bytes("1000 500 200 1 0 300 0\n") == 4_096_000
    assert address_space_bytes("") == 0


@pytest.mark.parametrize(
    ("texts", "left_bytes"),
    [
        ({"memory.max": "max\n", "memory.current": "4096\n"}, None),
        ({"memory.max": "1000\n", "memory.current": "400\n"}, 600),
        ({"memory.max": "1000\n", "memory.high": "900\n", "memory.current": "400\n"}, 500),
        ({"memory.max": "max\n", "memory.high": "900\n", "memory.current": "400\n"}, 500),
        ({"memory.max": "1000\n", "memory.current": "1400\n"}, 0),
        (
            {
                "memory.max": "1000\n",
                "memory.current": "900\n",
                "memory.stat": "anon 1\ninactive_file 500\n",
            },
            600,
        ),
        (
            {
                "memory.limit_in_bytes": "1000\n",
                "memory.usage_in_bytes": "900\n",
                "memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
            },
            300,
        ),
        ({"memory.limit_in_bytes": V1_UNLIMITED, "memory.usage_in_bytes": "9\n"}, None),
        ({"memory.max": "garbage", "memory.current": "1"}, None),
        ({"memory.max": "1000\n"}, 1000),
        ({}, None),
    ],
)
def test_what_a_group_leaves(texts: dict[str, str], left_bytes: int | None) -> None:
    bound = group_left(GroupFiles("/sys/fs/cgroup/soaks", texts))
    if left_bytes is None:
        assert bound is None
    else:
        assert bound == MemoryAllowed(left_bytes, "control group /sys/fs/cgroup/soaks")


def test_groups_of_v2() -> None:
    mountinfo = V2_MOUNT.format(mount="/sys/fs/cgroup")
    assert control_groups("0::/user.slice/a\n", mountinfo) == [
        (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/user.slice/a"))
    ]


def test_groups_of_v1_beside_v2() -> None:
    cgroup = "4:memory:/jobs/x\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"
    mountinfo = V1_MOUNTS.format(mount="/c") + V2_MOUNT.format(mount="/c/unified")
    assert control_groups(cgroup, mountinfo) == [
        (Path("/c/memory"), Path("/c/memory/jobs/x")),
        (Path("/c/unified"), Path("/c/unified")),
    ]


def test_a_group_seen_from_inside_a_container() -> None:
    mounted_at_ours = "35 31 0:32 /docker/abc /c rw - cgroup cgroup rw,memory\n"
    assert control_groups("4:memory:/docker/abc\n", mounted_at_ours) == [(Path("/c"), Path("/c"))]
    assert control_groups("4:memory:/docker/abc/in\n", mounted_at_ours) == [
        (Path("/c"), Path("/c/in"))
    ]
    assert control_groups("4:memory:/elsewhere\n", mounted_at_ours) == [(Path("/c"), Path("/c"))]
    above = V2_MOUNT.format(mount="/c")
    assert control_groups("0::/../../outside\n", above) == [(Path("/c"), Path("/c"))]


def test_a_mount_point_with_a_space() -> None:
    mountinfo = V2_MOUNT.format(mount=r"/a\040b")
    assert control_groups("0::/\n", mountinfo) == [(Path("/a b"), Path("/a b"))]


def test_damaged_texts_give_no_groups() -> None:
    assert control_groups("", V2_MOUNT.format(mount="/c")) == []
    assert control_groups("nonsense\n\n4\n", "short\n - \nx y - cgroup2\n") == []


def test_limits_are_looked_for_up_to_the_mount_point(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    write(tmp_path, memory__max="1\n")
    write(mount / "a", memory__max="900\n", memory__current="100\n")
    write(mount / "a/b", memory__max="max\n", memory__current="50\n")
    groups = limit_files("0::/a/b/gone\n", V2_MOUNT.format(mount=mount))
    assert [group.path for group in groups] == [str(mount / "a/b"), str(mount / "a")]


def test_the_least_bound_counts(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    write(mount / "a", memory__max=f"{GIB}\n", memory__current=f"{MIB}\n")
    write(mount / "a/b", memory__max="max\n", memory__current="0\n")
    proc = proc_with(tmp_path, cgroup="0::/a/b\n", mountinfo=V2_MOUNT.format(mount=mount))

    def allowed(limit_as_bytes: int = UNLIMITED_BYTES) -> MemoryAllowed:
        return memory_allowed(proc=proc, limit_as_bytes=limit_as_bytes)

    assert allowed() == (GIB - MIB, f"control group {mount / 'a'}")
    assert allowed(100 * MIB) == (100 * MIB - 4_096_000, "RLIMIT_AS (ulimit -v)")
    assert allowed(MIB) == (0, "RLIMIT_AS (ulimit -v)")
    (mount / "a/memory.max").write_text("max\n")
    assert allowed() == (2_048_000 * KIB, "MemAvailable in /proc/meminfo")


def test_nothing_readable_limits_nothing(tmp_path: Path) -> None:
    bound = memory_allowed(proc=tmp_path / "gone", limit_as_bytes=UNLIMITED_BYTES)
    assert bound == (UNLIMITED_BYTES, "no limit found")


def test_this_machine() -> None:
    assert 0 < memory_allowed().bytes < UNLIMITED_BYTES


def test_memory_that_is_there_is_enough() -> None:
    require_memory(GIB, MemoryAllowed(GIB, "MemAvailable"), "the guest")


def test_memory_that_is_not_there_is_refused() -> None:
    allowed = MemoryAllowed(512 * MIB - 1, "control group /a")
    with pytest.raises(InputError) as caught:
        require_memory(512 * MIB + 1, allowed, "a guest of 8GiB")
    message = str(caught.value)
    assert "a guest of 8GiB needs 513 MiB, but only 511 MiB may be used" in message
    assert "control group /a" in message
    assert "touch = false" in message
    assert caught.value.exit_code == 2
