"""Wrong models that the trace check must find: planted in a copy, no longer exact.

The piece of w2thp has three exact snapshots, and a bulk allocation that leaves no event. A mutant
is one change of the source text; the copy runs as plain Python in a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.trace_slice import slice_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("base", "allocator", "reporter", "study")
PAGESET = "allocator/pageset.py"
BUDDY = "allocator/buddy.py"
REQUEST = "reporter/request.py"
FIRST_LINE = 7_330
LAST_LINE = 31_720
SNAPSHOTS = 3
PROGRAM = (
    "import json, pathlib, sys\n"
    "from pagesoak.study.fidelity_trace import check_trace\n"
    "print(json.dumps(check_trace(pathlib.Path(sys.argv[1])).as_json()))\n"
)

pytestmark = pytest.mark.slow


class Mutant(NamedTuple):
    """In `file`, `before` becomes `after`."""

    file: str
    before: str
    after: str


MUTANTS = {
    "freed to the tail of the pageset": Mutant(
        PAGESET, "    list_add(core.pages, ", "    list_add_tail(core.pages, "
    ),
    "refilled at the head": Mutant(
        PAGESET, "list_add_tail(core.pages, head, pfn)", "list_add(core.pages, head, pfn)"
    ),
    "drained from the head": Mutant(
        PAGESET,
        "pfn = core.pages[head * PAGE_WORDS + PREVIOUS]",
        "pfn = core.pages[head * PAGE_WORDS + NEXT]",
    ),
    "free_factor is never halved": Mutant(PAGESET, "_FREE_FACTOR] >>= 1", "_FREE_FACTOR] >>= 0"),
    "no look at the next larger buddy": Mutant(
        BUDDY, "tail = page_is_buddy(", "tail = False and page_is_buddy("
    ),
    "put back at the head": Mutant(
        REQUEST, "flags = SKIP_REPORT_NOTIFY | TO_TAIL", "flags = SKIP_REPORT_NOTIFY"
    ),
    "never Reported": Mutant(
        REQUEST, "if error == 0 and page_is_buddy", "if error > 0 and page_is_buddy"
    ),
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The piece, as a folder."""
    piece = slice_of("w2thp", FIRST_LINE, LAST_LINE, snapshots=SNAPSHOTS)
    return piece.write(tmp_path_factory.mktemp("w2thp"))


def check_with(folder: Path, recording: Path, mutant: Mutant | None) -> dict[str, Any]:
    """What a copy of pagesoak with the mutant in it says of the recording."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / "pagesoak" / package,
            folder / "pagesoak" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "pagesoak" / "__init__.py", folder / "pagesoak")
    if mutant is not None:
        source = folder / "pagesoak" / mutant.file
        text = source.read_text(encoding="utf-8")
        assert text.count(mutant.before) == 1
        source.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(recording)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_model_without_a_mutant_is_exact(tmp_path: Path, recording: Path) -> None:
    result = check_with(tmp_path, recording, None)
    assert result["allocations"] == {"exact": 5407, "total": 5408, "not_checked": 9}
    assert result["snapshots"] == {"exact": 2, "total": 2}
    assert result["holds"]


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_found(tmp_path: Path, recording: Path, mutant: Mutant) -> None:
    result = check_with(tmp_path, recording, mutant)
    assert not result["holds"]
    exact = [
        result[what]["exact"] < result[what]["total"] for what in ("allocations", "snapshots")
    ]
    assert any(exact)
    assert len(result["divergences"]) > 1
