"""One core, three ways to run it: compiled, as plain Python, and its rules once more in C."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.layout import PAGE_RECORD_BYTES, PAGE_WORDS, Section
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment
from tests.c_compiler import needs_compiler
from tests.treefiles import ROOT

BENCH = ROOT / "bench" / "core_trace.py"
EVENTS = 30_000
"""Enough for thousands of refills, drains, splits and merges; a second in plain Python."""


def run_trace(*arguments: str, plain: bool = False) -> dict[str, Any]:
    environment = {
        name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"
    }
    environment["PYTHONPATH"] = str(ROOT)
    if plain:
        environment["NUMBA_DISABLE_JIT"] = "1"
    command = [sys.executable, str(BENCH), "--events", str(EVENTS), "--json", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_plain_and_compiled_core_end_in_the_same_state() -> None:
    compiled = run_trace("--digest")
    plain = run_trace("--digest", plain=True)
    assert (compiled["core"], plain["core"]) == ("compiled", "plain")
    assert compiled["failed"] == plain["failed"] == 0
    assert compiled["digest"] == plain["digest"]
    assert compiled["state_digest"] == plain["state_digest"]


@needs_compiler
def test_core_and_c_twin_end_in_the_same_state() -> None:
    found = run_trace("--rounds", "2")
    assert found["same_digest"] is True
    assert found["failed"] == 0


def test_without_a_compiler_the_twin_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    found = run_trace("--rounds", "2")
    assert "no C compiler" in found["skipped"]
    assert found["same_digest"] is None


LAST_BUCKET = """\
from pagesoak.base.native import core_mode
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import observe_statistic
segment = Segment.create(SegmentPlan(1, 1, 512, 4, 1, 1, 1))
print(core_mode(), observe_statistic(segment.base, 0, 0, 1 << 60))
segment.close()
"""


def test_a_changed_constant_of_another_module_takes_effect(tmp_path: Path) -> None:
    """Numba alone would go on with code it has cached from before the change."""
    shutil.copytree(
        ROOT / "pagesoak", tmp_path / "pagesoak", ignore=shutil.ignore_patterns("__pycache__")
    )
    environment = {
        name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"
    }
    environment |= {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def last_bucket() -> str:
        command = [sys.executable, "-c", LAST_BUCKET]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        return done.stdout.strip()

    assert last_bucket() == "compiled 319"
    assert list((tmp_path / "cache").rglob("*.nbi"))
    layout = tmp_path / "pagesoak" / "base" / "layout.py"
    text = layout.read_text()
    assert text.count("HISTOGRAM_WORDS = 328\n") == 1
    layout.write_text(text.replace("HISTOGRAM_WORDS = 328\n", "HISTOGRAM_WORDS = 336\n"))
    assert last_bucket() == "compiled 327"


def test_a_page_record_takes_16_bytes() -> None:
    plan = SegmentPlan(1, 1, 4096, 4, 1, 1, 1)
    segment = Segment.create(plan)
    assert segment.pages.itemsize * PAGE_WORDS == PAGE_RECORD_BYTES == 16
    assert plan.section_bytes()[Section.PAGES] == (plan.max_pfn + plan.lists) * 16
    assert len(segment.pages) == (plan.max_pfn + plan.lists) * PAGE_WORDS
    segment.close()
