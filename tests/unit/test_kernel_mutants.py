"""Wrong kernels that must be caught: one change planted in a copy, and a named case fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("base", "allocator", "reporter")
HELPERS = ("core_helper.py", "zone_helper.py", "reporting_driver.py", "guests.py")
SETTINGS = {
    "NUMBA_DISABLE_JIT": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
RESERVE, TYPED, TUNED = "test_highatomic.py", "test_fallback_typed.py", "test_pageset_tuned.py"
COMPACTION, NOFRAGMENT = "test_compaction.py", "test_nofragment.py"
COUNTERS = "test_reporting_counters.py"


class Mutant(NamedTuple):
    """In the allocator's `file`, `before` becomes `after`; `case` in `cases` must fail."""

    file: str
    before: str
    after: str
    cases: str
    case: str


MUTANTS = {
    "a reserve of one per cent alone": Mutant(
        "highatomic.py",
        "return hundredth + PAGEBLOCK_PAGES",
        "return hundredth",
        RESERVE,
        "how_much",
    ),
    "the reserve is not asked first": Mutant(
        "highatomic.py",
        "    if alloc_flags & ALLOC_HIGHATOMIC:\n",
        "    if alloc_flags < 0:\n",
        RESERVE,
        "asked_first",
    ),
    "who cannot wait has no right to the reserve": Mutant(
        "highatomic.py", "rights |= ALLOC_NON_BLOCK", "rights |= 0", RESERVE, "who_may_take"
    ),
    "the last page block is given back": Mutant(
        "highatomic.py",
        "core.zones[zone * ZONE_WORDS + Z_RESERVED_HIGHATOMIC] <= PAGEBLOCK_PAGES",
        "core.zones[zone * ZONE_WORDS + Z_RESERVED_HIGHATOMIC] < PAGEBLOCK_PAGES",
        RESERVE,
        "last_one_kept",
    ),
    "what is given back still counts as reserved": Mutant(
        "highatomic.py",
        "core.zones[z + Z_RESERVED_HIGHATOMIC] -= min(",
        "core.zones[z + Z_RESERVED_HIGHATOMIC] -= 0 * min(",
        RESERVE,
        "last_one_kept",
    ),
    "6.12 takes off the whole reserve": Mutant(
        "watermark.py",
        "if reserved != 0 and kernel_has",
        "if reserved < 0 and kernel_has",
        RESERVE,
        "leaves_the_reserve_out",
    ),
    "free pages of the reserve are not counted": Mutant(
        "buddy.py",
        "    if migratetype == HIGHATOMIC:\n",
        "    if migratetype < 0:\n",
        RESERVE,
        "freed_into",
    ),
    "the rest of a stolen block moves over": Mutant(
        "fallback_typed.py",
        "take_and_split(core, zone, pfn, current, order, other)",
        "take_and_split(core, zone, pfn, current, order, migratetype)",
        TYPED,
        "leaves_its_rest",
    ),
    "every page block is claimed": Mutant(
        "fallback_typed.py",
        "if free + alike < PAGEBLOCK_PAGES // 2:",
        "if free + alike < 0:",
        TYPED,
        "cannot_claim",
    ),
    "a refill tries to claim for every page": Mutant(
        "pageset.py",
        "stealing = pfn != NO_PAGE and stolen(core, pfn, migratetype)",
        "stealing = False",
        TYPED,
        "does_not_try_again",
    ),
    "merging leaves the buddy's type": Mutant(
        "buddy.py", "core.blocks[buddy >> PAGEBLOCK_ORDER] = migratetype", "pass", TYPED, "merging"
    ),
    "drained pages go where they were freed for": Mutant(
        "pageset.py",
        "            if typed:\n",
        "            if typed and pfn < 0:\n",
        TYPED,
        "are_drained",
    ),
    "no page block is spared": Mutant(
        "page_alloc.py",
        "return ALLOC_NOFRAGMENT if core.zones[z + Z_NOFRAGMENT] != 0 else 0",
        "return 0",
        NOFRAGMENT,
        "another_zones",
    ),
    "a free does not shorten refills": Mutant(
        "pageset_tuned.py",
        "pagesets[p + P_ALLOC_FACTOR] >>= 1",
        "pagesets[p + P_ALLOC_FACTOR] >>= 0",
        TUNED,
        "halves_the_next",
    ),
    "high grows below the high mark": Mutant(
        "pageset_tuned.py",
        "core.zones[zone * ZONE_WORDS + Z_BELOW_HIGH] == 0",
        "core.zones[zone * ZONE_WORDS + Z_BELOW_HIGH] >= 0",
        TUNED,
        "does_not_grow",
    ),
    "high decays by a quarter": Mutant(
        "pageset_tuned.py", "DECAY_SHIFT = 3", "DECAY_SHIFT = 2", TUNED, "decays"
    ),
    "nothing stays when all of high may go": Mutant(
        "pageset_tuned.py", "most = high - batch", "most = high", TUNED, "in_a_row"
    ),
    "a moved page is not written into its table": Mutant(
        "compact_scan.py", "core.tables[place] = target", "pass", COMPACTION, "pages_move"
    ),
    "an unmapping's pages are moved": Mutant(
        "compact_scan.py", "if not background and", "if", COMPACTION, "its_cpu_unmaps"
    ),
    "unused pages of the free scanner are kept": Mutant(
        "compact_zone.py",
        "    release_targets(core, cpu, zone)\n",
        "",
        COMPACTION,
        "go_back",
    ),
    "the block once is room enough": Mutant(
        "compact_zone.py", "COMPACT_GAP = 2", "COMPACT_GAP = 1", COMPACTION, "twice_the_block"
    ),
    "lack of memory is compacted": Mutant(
        "compact_zone.py",
        "FRAGMENTED_ENOUGH = 500",
        "FRAGMENTED_ENOUGH = 0",
        COMPACTION,
        "pieces_rather",
    ),
    "a zone is put off once less": Mutant(
        "compact_zone.py",
        "return considered < limit",
        "return considered + 1 < limit",
        COMPACTION,
        "twice_as_long",
    ),
    "compaction as a request's last resort goes on for ever": Mutant(
        "compaction.py", "retries < most", "retries >= 0", COMPACTION, "how_long"
    ),
    "CAL-1: refaults counted by the block": Mutant(
        "buddy.py", "Z_REFAULTED] += 1 << order", "Z_REFAULTED] += 1", COUNTERS, "cal_1"
    ),
}


def plant(folder: Path, mutant: Mutant) -> None:
    """A copy of what the cases need, with the mutant in it."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / "pagesoak" / package,
            folder / "pagesoak" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "pagesoak" / "__init__.py", folder / "pagesoak")
    (folder / "tests" / "unit").mkdir(parents=True)
    for name in HELPERS:
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    shutil.copy(ROOT / "tests" / "unit" / mutant.cases, folder / "tests" / "unit")
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    source = folder / "pagesoak" / "allocator" / mutant.file
    text = source.read_text(encoding="utf-8")
    assert text.count(mutant.before) == 1
    source.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    plant(tmp_path, mutant)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--import-mode=importlib"),
        *("-p", "no:cacheprovider", f"tests/unit/{mutant.cases}", "-k", mutant.case),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | SETTINGS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert re.search(r"^FAILED ", done.stdout, re.MULTILINE)
    assert "assert " in done.stdout or "AssertionError" in done.stdout
