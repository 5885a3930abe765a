"""What would spoil a soak is found, each thing by its own check."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from pagesoak.base.memory import MemoryAllowed
from pagesoak.base.units import GIB
from pagesoak.cli import doctor as verb
from pagesoak.daemon import doctor
from pagesoak.daemon.client import NoDaemonError
from pagesoak.daemon.doctor import Finding, Level, Place


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
        (
            doctor.disk(Place(Path("/proc/self"))),
            doctor.disk(Place(Path("/proc/self"))),
            "bad",
        ),
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
    found = {each.check: each.level for each in doctor.examine(Place(tmp_path), root=tmp_path)}
    assert (found["processors"], found["processes"]) == (processors, processes)


def test_a_machine_that_says_nothing_is_examined_too(tmp_path: Path) -> None:
    findings = doctor.examine(Place(tmp_path / "not" / "made" / "yet"), root=tmp_path)
    assert len({finding.check for finding in findings}) == len(findings) == 9
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("hard", "said"),
    [
        (4096, "`ulimit -n 4096`"),
        (-1, "`ulimit -n unlimited`"),
        (64, "the hard limit is 64: raise it with LimitNOFILE= of a service, or nofile in /etc/"),
    ],
)
def test_a_way_to_more_descriptors_is_one_that_leads_there(hard: int, said: str) -> None:
    found = doctor.descriptors(64, hard)
    assert found.level is Level.BAD
    assert said in found.text
    assert ("ulimit" in said) == ("ulimit" in found.text)


# ---- where results are kept ----


@pytest.mark.parametrize("below", ["", "runs"])
@pytest.mark.parametrize("is_daemons", [True, False])
def test_results_are_not_kept_where_a_file_is(
    tmp_path: Path, below: str, is_daemons: bool
) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to("nowhere")
    for taken in (file, link):
        found = doctor.disk(Place(taken / below, is_daemons=is_daemons, problem="File exists"))
        assert found.level is Level.BAD
        assert f"{taken} is no folder" in found.text
        assert "runs.directory" in found.text


def test_a_link_to_a_folder_is_as_good_as_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert "free for" in doctor.disk(Place(tmp_path / "link")).text


def roomy(flag: int = 0) -> SimpleNamespace:
    return SimpleNamespace(f_bavail=GIB, f_frsize=1, f_flag=flag)


def test_what_a_daemon_may_do_is_not_judged_by_what_its_caller_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("os.statvfs", lambda _: roomy())
    assert doctor.disk(Place(tmp_path)).level is Level.BAD
    assert doctor.disk(Place(tmp_path, is_daemons=True)).level is Level.OK


def test_what_a_daemon_says_of_its_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: roomy())
    found = doctor.disk(Place(tmp_path, is_daemons=True, problem="it refuses"))
    assert (found.level, found.text) == (Level.BAD, f"it refuses; 1,024 MiB free for {tmp_path}")


def test_a_disk_that_is_read_only_keeps_nothing_of_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: roomy(os.ST_RDONLY))
    found = doctor.disk(Place(tmp_path, is_daemons=True))
    assert (found.level, found.text.partition(";")[0]) == (Level.BAD, "read-only")


def test_a_place_that_only_the_daemon_sees_is_to_be_known(tmp_path: Path) -> None:
    hidden = tmp_path / "another" / "runs"
    assert doctor.disk(Place(hidden, is_daemons=True)).level is Level.NOTE
    assert doctor.disk(Place(hidden, is_daemons=True, problem="full")).level is Level.BAD


class Answers:
    """A daemon that answers with this; None: there is none."""

    def __init__(self, results: Path | None) -> None:
        self._results = results

    def get(self, target: str) -> dict[str, Any]:
        """The status."""
        assert target == "/v1/status"
        if self._results is None:
            raise NoDaemonError("no daemon answers")
        return {"pagesoak": "1", "results": str(self._results), "storage_problem": None}


@pytest.mark.parametrize(
    ("daemons", "given", "looked_at"),
    [
        ("daemons", None, "daemons"),
        ("daemons", "given", "given"),
        (None, "given", "given"),
        (None, None, "state/pagesoak/runs"),
    ],
)
def test_the_disk_is_the_one_named_or_the_daemons_or_where_one_would_keep_results(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    daemons: str | None,
    given: str | None,
    looked_at: str,
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "daemons").mkdir()
    answers = Answers(tmp_path / daemons if daemons else None)
    monkeypatch.setattr(verb, "client", lambda _: answers)
    with pytest.raises(typer.Exit):
        verb.doctor(tmp_path / given if given else None, as_json=True)
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert found["disk"]["text"].endswith(f"free for {tmp_path / looked_at}")
    assert found["daemon"]["level"] == ("ok" if daemons else "note")
