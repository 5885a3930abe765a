"""Kills of the machine's own OOM killer: which deaths they are told with, in a control group that
all runs of a daemon share.
"""

from pathlib import Path

import pytest

from pagesoak.engine.machine_oom import DEATH_SECONDS, MachineOom
from pagesoak.engine.restarts import WINDOW_SECONDS

MOUNT = "30 23 0:26 / {group} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


class Group:
    """A control group in files, a clock, and who looks at them."""

    def __init__(self, folder: Path, mounts: int = 1) -> None:
        self.seconds = 100.0
        self._events = folder / "group" / "memory.events"
        self._events.parent.mkdir()
        for number in range(1, mounts):
            (folder / f"again-{number}").symlink_to(self._events.parent)
        self.killed(3)
        places = ["group", *(f"again-{number}" for number in range(1, mounts))]
        proc = folder / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text("0::/\n")
        (proc / "mountinfo").write_text(
            "".join(MOUNT.format(group=folder / place) for place in places)
        )
        self.watch = MachineOom(proc.parent, lambda: self.seconds)

    def killed(self, total: int) -> None:
        """So many in the group's life."""
        self._events.write_text(f"low 0\noom 9\noom_kill {total}\n")

    def pass_by(self, seconds: float) -> None:
        """With a look ten times a second, as the runner has it."""
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds += 0.1
            self.watch.look()


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(tmp_path)


def test_what_was_killed_before_the_run_is_not_its_own(group: Group) -> None:
    group.pass_by(2.0)
    assert group.watch.new_kills() == 0
    assert group.watch.in_words() == ""


def test_a_kill_just_before_a_death_is_told_once(group: Group) -> None:
    group.killed(5)
    assert group.watch.new_kills() == 2
    assert group.watch.new_kills() == 0
    assert "has killed 2 processes" in group.watch.in_words()
    group.killed(6)
    group.pass_by(DEATH_SECONDS / 2)
    assert group.watch.new_kills() == 1


def test_a_death_long_after_somebody_elses_kill_is_not_charged_to_memory(group: Group) -> None:
    group.killed(4)
    group.pass_by(DEATH_SECONDS + 2)
    assert group.watch.new_kills() == 0
    assert "has killed 1 processes" in group.watch.in_words()
    group.pass_by(WINDOW_SECONDS)
    assert group.watch.in_words() == ""


def test_a_group_that_is_mounted_twice_is_counted_once(tmp_path: Path) -> None:
    group = Group(tmp_path, mounts=3)
    group.killed(4)
    assert group.watch.new_kills() == 1


def test_where_no_groups_can_be_read_nobody_was_killed(tmp_path: Path) -> None:
    watch = MachineOom(tmp_path)
    assert watch.new_kills() == 0
    assert watch.in_words() == ""
