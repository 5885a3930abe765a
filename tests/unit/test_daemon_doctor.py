"""What would spoil a soak is found, each thing by its own check."""

from pathlib import Path

import pytest

from pagesoak.base.memory import MemoryAllowed
from pagesoak.base.units import GIB
from pagesoak.daemon import doctor
from pagesoak.daemon.doctor import Finding, Level


@pytest.mark.parametrize(
    ("good", "spoiled", "level"),
    [
        (
            doctor.memory(MemoryAllowed(GIB, "x")),
            doctor.memory(MemoryAllowed(GIB - 1, "x")),
            "bad",
        ),
        (doctor.processors(2, None), doctor.processors(2, 0.5), "note"),
        (doctor.processors(2, 2.0), doctor.processors(1, None), "note"),
        (doctor.descriptors(1024, 4096), doctor.descriptors(64, 4096), "bad"),
        (doctor.descriptors(-1, -1), doctor.descriptors(255, 255), "bad"),
        (doctor.processes(-1, None), doctor.processes(10, None), "bad"),
        (doctor.processes(-1, 64), doctor.processes(-1, 63), "bad"),
        (
            doctor.huge_pages("always within_size advise [never] deny force\n"),
            doctor.huge_pages("[always] within_size advise never deny force\n"),
            "note",
        ),
        (doctor.swap("SwapTotal:  0 kB\n"), doctor.swap("SwapTotal:  2048 kB\n"), "note"),
        (doctor.overcommit("0\n"), doctor.overcommit("2\n"), "note"),
        (doctor.clock("tsc\n"), doctor.clock("hpet\n"), "note"),
        (doctor.disk(Path("/proc/self")), doctor.disk(Path("/proc/self")), "bad"),
    ],
)
def test_each_check_sees_what_it_is_for(good: Finding, spoiled: Finding, level: str) -> None:
    assert spoiled.level == level
    assert spoiled.check == good.check
    if spoiled != good:
        assert good.level is Level.OK


MOUNTS = (
    "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    "32 31 0:29 / /c/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /c/pids rw,relatime - cgroup cgroup rw,pids\n"
)


@pytest.mark.parametrize(
    ("files", "processors", "processes"),
    [
        ({}, "ok", "ok"),
        ({"sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, "note", "ok"),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, "ok", "ok"),
        ({"c/cpu/x/cpu.cfs_quota_us": "-1\n", "c/cpu/x/cpu.cfs_period_us": "100\n"}, "ok", "ok"),
        ({"c/cpu/cpu.cfs_quota_us": "50\n", "c/cpu/cpu.cfs_period_us": "100\n"}, "note", "ok"),
        (
            {"sys/fs/cgroup/a/pids.max": "90\n", "sys/fs/cgroup/a/pids.current": "40\n"},
            "ok",
            "bad",
        ),
        ({"c/pids/y/pids.max": "max\n", "c/pids/y/pids.current": "40\n"}, "ok", "ok"),
    ],
)
def test_limits_of_groups_further_out_count_as_well(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    processors: str,
    processes: str,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    given = {
        "proc/self/cgroup": "0::/a/b\n3:cpu,cpuacct:/x\n4:pids:/y\n",
        "proc/self/mountinfo": MOUNTS,
        **files,
    }
    for name, text in given.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {each.check: each.level for each in doctor.examine(tmp_path, root=tmp_path)}
    assert (found["processors"], found["processes"]) == (processors, processes)


def test_a_machine_that_says_nothing_is_examined_too(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path / "not" / "made" / "yet", root=tmp_path)
    assert len({finding.check for finding in findings}) == len(findings) == 9
    assert not (tmp_path / "not").exists()
