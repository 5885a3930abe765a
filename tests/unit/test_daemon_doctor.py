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
        (doctor.processors(2, "max 100000"), doctor.processors(2, "50000 100000"), "note"),
        (doctor.processors(2, ""), doctor.processors(1, ""), "note"),
        (doctor.descriptors(1024, 4096), doctor.descriptors(64, 4096), "bad"),
        (doctor.descriptors(-1, -1), doctor.descriptors(255, 255), "bad"),
        (doctor.processes(-1), doctor.processes(10), "bad"),
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


def test_a_machine_that_says_nothing_is_examined_too(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path / "not" / "made" / "yet", root=tmp_path)
    assert len({finding.check for finding in findings}) == len(findings) == 9
    assert not (tmp_path / "not").exists()
