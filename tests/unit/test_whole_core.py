"""What a verb compiles: all that compiles, so that no later verb finds a part of it missing."""

import json
import subprocess
import sys

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
