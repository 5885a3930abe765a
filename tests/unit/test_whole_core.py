"""What a verb compiles: all that compiles, so that no later verb finds a part of it missing."""

import json
import re
import subprocess
import sys

from pagesoak.base.native import core_sources
from tests.treefiles import ROOT

PROGRAM = """
import importlib, json, sys
from pagesoak.cli.common import EVERYTHING
for name in EVERYTHING:
    importlib.import_module(name)
print(json.dumps([name for name in sys.modules if name.startswith("pagesoak.")]))
"""


def test_everything_that_compiles_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    imported = {*json.loads(done.stdout)}
    compiling = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "pagesoak").rglob("*.py")
        if "\n@entry\n" in path.read_text()
    }
    assert compiling
    assert compiling <= imported


def test_only_what_compiled_code_comes_from_is_compiled_again() -> None:
    """A change of the engine, the commands or the daemon costs nobody a compilation; a change of
    any constant of the core does.
    """
    packages = {path.relative_to(ROOT / "pagesoak").parts[0] for path in core_sources()}
    assert packages == {"allocator", "base", "host", "reporter", "study"}
    names = {path.name for path in core_sources()}
    assert {"layout.py", "statistics.py", "gfp.py", "units.py"} <= names
    compiling = {
        path
        for path in (ROOT / "pagesoak").rglob("*.py")
        if re.search(r"^@(entry|hot|inner|leaf)$", path.read_text(), re.MULTILINE)
    }
    assert compiling
    assert compiling <= set(core_sources())
