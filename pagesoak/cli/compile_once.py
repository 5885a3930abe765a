"""Processes that need the compiled core at once compile it once: one does, the others wait.

A lock on an open file, so that one which is killed leaves nothing that holds up the next.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "compiling.lock"
FILE_MODE = 0o600


@contextmanager
def one_at_a_time(folder: Path | None) -> Iterator[None]:
    """Wait until nobody else is inside with the same folder; without one, or where it cannot be
    written to, at once.
    """
    descriptor = _opened(folder)
    try:
        if descriptor >= 0:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _opened(folder: Path | None) -> int:
    if folder is None:
        return -1
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(folder / LOCK_NAME, flags, FILE_MODE)
    except OSError:
        return -1


def compile_once(
    folder: Path | None, needed: Callable[[], bool], load: Callable[[], None]
) -> None:
    """Load what is compiled, where another process compiles it already after that."""
    if not needed():
        load()
        return
    with one_at_a_time(folder):
        load()
