"""The page's files are those of the fixed table, keep its policy, and are what was vendored."""

import hashlib
import re
from pathlib import Path

from pagesoak.daemon.page_assets import ASSETS, POLICY
from tests.treefiles import ROOT

FOLDER = ROOT / "pagesoak" / "daemon" / "page"
OWN_SCRIPTS = ("page.js", "chart.js", "show.js")


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_every_file_is_served_or_says_where_the_others_come_from() -> None:
    names = {name for name, _ in ASSETS.values()}
    assert {path.name for path in FOLDER.iterdir()} == names | {"VENDORED.md"}


def test_what_was_vendored_is_unchanged() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", text("VENDORED.md"), re.MULTILINE)
    assert len(rows) == 3
    for name, digest in rows:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_the_page_has_no_inline_script_or_style_and_asks_nobody_else() -> None:
    html = text("index.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    named = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert {place for place in named if place not in ASSETS} == set()
    imported = [re.findall(r'from "\./([^"]+)"', text(name)) for name in OWN_SCRIPTS]
    assert {f"/page/{name}" for names in imported for name in names} <= ASSETS.keys()
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY


def test_texts_are_only_ever_set_as_text() -> None:
    for name in OWN_SCRIPTS:
        script = text(name)
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in script, f"{name}: {way}"
        assert not re.search(r"https?://", script), name


def test_every_element_that_a_script_looks_for_is_there() -> None:
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', text("page.js")))
    there = set(re.findall(r'id="([\w-]+)"', text("index.html")))
    assert wanted - there == set()


def test_the_folder_is_packed() -> None:
    assert '"pagesoak.daemon" = ["page/*"]' in Path(ROOT / "pyproject.toml").read_text()
