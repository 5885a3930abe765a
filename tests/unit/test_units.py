"""The units: what stands in the repository, what systemd says of them, how they are written."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from pagesoak.base.errors import InputError
from pagesoak.daemon.units import (
    MARK,
    SERVICE,
    SOCKET,
    SYSTEM_PROGRAM,
    Wanted,
    is_temporary,
    quoted,
    units,
)
from tests.live_helper import pagesoak
from tests.treefiles import ROOT

EXPOSURE_MAX = 1.5
IN_A_HOME = str(Path("/", "home", "somebody", "bin", "pagesoak"))
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze")


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(ANALYZE), *map(str, arguments)]
    place = {**os.environ, "XDG_RUNTIME_DIR": tempfile.gettempdir()}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=place)


def instance(folder: Path, wanted: Wanted) -> list[Path]:
    """The units as files of an instance."""
    files = []
    for name, text in units(wanted).items():
        file = folder / name.replace("@.", "@one.")
        file.write_text(text)
        files.append(file)
    return files


def settings(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_the_copies_in_the_repository_are_what_is_installed() -> None:
    made = units(Wanted((SYSTEM_PROGRAM,)))
    found = {path.name: path.read_text() for path in (ROOT / "systemd").iterdir()}
    assert found == made


@needs_analyze
@pytest.mark.parametrize("user", [False, True])
def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path, user: bool) -> None:
    program = shutil.which("true")
    assert program
    files = instance(tmp_path, Wanted((program,), "users", user))
    said = analyze("verify", *(["--user"] if user else []), *files)
    ours = [line for line in said.stderr.splitlines() if str(tmp_path) in line]
    assert (said.returncode, ours) == (0, [])


@needs_analyze
@pytest.mark.parametrize("program", [SYSTEM_PROGRAM, IN_A_HOME])
def test_the_service_is_exposed_as_little_as_promised(tmp_path: Path, program: str) -> None:
    service, _ = instance(tmp_path, Wanted((program,)))
    said = analyze("security", "--offline=true", "--threshold=15", service)
    match = re.search(r"exposure level .*: ([0-9.]+)", said.stdout)
    assert match
    assert float(match[1]) <= EXPOSURE_MAX
    assert said.returncode == 0


def test_the_service_says_what_was_promised() -> None:
    found = settings(units(Wanted((SYSTEM_PROGRAM,)))[SERVICE])
    assert found["Type"] == "notify"
    assert found["ExecStart"] == "/usr/bin/pagesoak serve"
    assert int(found["RestartSec"]) >= 5
    assert int(found["TimeoutStopSec"]) > 15
    assert found["CacheDirectory"] == "pagesoak"
    assert found["DynamicUser"] == "yes"
    assert {"StateDirectory", "RuntimeDirectory", "ConfigurationDirectory", "WatchdogSec",
            "OOMScoreAdjust"} <= found.keys()  # fmt: skip
    assert "MemoryDenyWriteExecute" not in found


@pytest.mark.parametrize("user", [False, True])
def test_the_service_is_bounded_in_all_but_the_memory_of_its_guests(user: bool) -> None:
    service = units(Wanted((SYSTEM_PROGRAM,), user=user))[SERVICE]
    found = settings(service)
    assert {"TasksMax", "LimitNOFILE"} <= found.keys()
    assert found["LimitCORE"] == "0"
    assert "MemoryMax" not in found
    assert "\n#MemoryMax=" in service


def test_a_program_in_a_home_stays_visible() -> None:
    hidden = settings(units(Wanted((SYSTEM_PROGRAM,)))[SERVICE])
    shown = settings(units(Wanted((IN_A_HOME, "-m", "pagesoak")))[SERVICE])
    assert (hidden["ProtectHome"], shown["ProtectHome"]) == ("yes", "read-only")


@pytest.mark.parametrize(
    ("path", "temporary"),
    [
        ("/tmp/venv/bin/pagesoak", True),  # noqa: S108 - a path in words
        ("/var/tmp/bin/pagesoak", True),  # noqa: S108 - a path in words
        ("/usr/bin/pagesoak", False),
        ("/var/lib/tmp/pagesoak", False),
    ],
)
def test_a_program_that_the_service_cannot_see_is_noticed(path: str, *, temporary: bool) -> None:
    assert is_temporary(path) is temporary


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("/usr/bin/pagesoak", "/usr/bin/pagesoak"),
        ("/opt/my tools/pagesoak", '"/opt/my tools/pagesoak"'),
        ("/opt/100%/$HOME", "/opt/100%%/$$HOME"),
        ('/opt/"q"', '"/opt/\\"q\\""'),
    ],
)
def test_a_path_is_read_back_as_it_is(word: str, text: str) -> None:
    assert quoted(word) == text


def test_what_cannot_stand_in_a_unit_is_refused() -> None:
    with pytest.raises(InputError, match="cannot stand"):
        units(Wanted(("/opt/x\nExecStartPre=/bin/sh",)))
    with pytest.raises(InputError, match="no name of a group"):
        units(Wanted((SYSTEM_PROGRAM,), "users\nListenStream=80"))


# ---- installing ----


def test_install_writes_both_with_the_path_of_this_program(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "units"
    done = pagesoak("systemd", "install", "--directory", folder, "--group", "users", "--json")
    assert done.code == 0, done.err
    assert done.summary["written"] == [str(folder / SERVICE), str(folder / SOCKET)]
    service = (folder / SERVICE).read_text()
    program = settings(service)["ExecStart"].split()[0]
    assert os.access(program, os.X_OK)
    assert settings((folder / SOCKET).read_text())["SocketGroup"] == "users"
    assert (folder / SERVICE).stat().st_mode & 0o777 == 0o644
    again = pagesoak("systemd", "install", "--directory", folder)
    assert again.code == 0
    assert "daemon-reload" in again.out


def test_install_for_a_user_asks_for_nothing_that_only_root_may(tmp_path: Path) -> None:
    done = pagesoak("systemd", "install", "--user", XDG_CONFIG_HOME=str(tmp_path))
    assert done.code == 0, done.err
    found = settings((tmp_path / "systemd" / "user" / SERVICE).read_text())
    assert found.keys().isdisjoint({"DynamicUser", "User", "CapabilityBoundingSet"})
    assert "--user" in done.out


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_what_somebody_else_put_there_is_not_replaced(tmp_path: Path, what: str) -> None:
    there = tmp_path / SOCKET
    precious = tmp_path / "precious"
    precious.write_text("mine")
    if what == "file":
        there.write_text("[Socket]\n")
    elif what == "link":
        precious.write_text(MARK)
        there.symlink_to(precious)
    else:
        there.mkdir()
    done = pagesoak("systemd", "install", "--directory", tmp_path)
    assert done.code == 2
    assert "is there already" in done.err
    assert not (tmp_path / SERVICE).exists()
