"""Two that need the compiled core at the same time compile it once."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pagesoak.cli.compile_once import LOCK_NAME, compile_once

COMPILE_SECONDS = 0.3
PROCESSES = 4


def loads(folder: Path) -> Callable[[], None]:
    """What compiles unless it has been done, and says that it did."""

    def load() -> None:
        if (folder / "complete").exists():
            return
        with (folder / "compiled").open("a") as file:
            file.write("x")
        time.sleep(COMPILE_SECONDS)
        (folder / "complete").touch()

    return load


def in_processes(what: Callable[[], None]) -> None:
    """Do it in several processes at once, and see each end well."""
    children = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                what()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * PROCESSES


def test_whoever_comes_while_another_compiles_waits_and_finds_it_done(tmp_path: Path) -> None:
    def needed() -> bool:
        return not (tmp_path / "complete").exists()

    in_processes(lambda: compile_once(tmp_path, needed, loads(tmp_path)))
    assert (tmp_path / "compiled").read_text() == "x"


def test_what_is_there_is_loaded_without_a_lock(tmp_path: Path) -> None:
    (tmp_path / "complete").touch()
    compile_once(tmp_path, lambda: False, loads(tmp_path))
    assert not (tmp_path / LOCK_NAME).exists()


def test_one_that_was_killed_in_the_middle_holds_nobody_up(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        compile_once(tmp_path, lambda: True, lambda: os.kill(os.getpid(), 9))
    assert os.waitpid(pid, 0)[1] == 9
    compile_once(tmp_path, lambda: True, loads(tmp_path))
    assert (tmp_path / "complete").exists()


@pytest.mark.parametrize("kind", ["none", "missing", "link"])
def test_a_cache_that_cannot_be_locked_is_no_reason_not_to_load(tmp_path: Path, kind: str) -> None:
    folder = {"none": None, "missing": tmp_path / "no", "link": tmp_path}[kind]
    if kind == "link":
        (tmp_path / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    compile_once(folder, lambda: True, loads(tmp_path))
    assert (tmp_path / "complete").exists()
    assert not (tmp_path / "elsewhere").exists()
