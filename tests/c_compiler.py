"""The C compiler of this machine, for tests that build a small program; without one they are
skipped by name. Continuous integration installs one (`.ci/run`).
"""

import os
import shutil

import pytest

NAMES = (os.environ.get("CC", "cc"), "cc", "gcc", "clang")
COMPILER = next(filter(None, map(shutil.which, NAMES)), None)
needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C compiler (Debian: apt install gcc libc6-dev)"
)
