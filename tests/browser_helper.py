"""What tests with a real Chromium share; they are skipped by name where something is missing.

Screenshots are kept below `results/screenshots` (or `PAGESOAK_SCREENSHOTS`), to be looked at.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.treefiles import ROOT

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing (pip install -r tests/browser.lock)"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="axe is missing (pip install -r tests/browser.lock)",
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is missing (Debian: apt install chromium)"
)
ARGUMENTS = [
    "--no-sandbox",  # there is none for root, as whom continuous integration runs
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--expose-gc",
    "--enable-precise-memory-info",
]
SCREENSHOTS = Path(os.environ.get("PAGESOAK_SCREENSHOTS", ROOT / "results" / "screenshots"))
SIZES = {"wide": (1200, 900), "narrow": (390, 844)}
SHOWN_MS_MAX = 60_000
"""For a page on a machine that does other things, too."""
