"""docs/model.md: every test ID can be looked up, once, and links within the page lead there."""

import re
from collections import Counter
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "model.md"

FAMILIES = {
    "WM": range(1, 7),
    "PC": range(1, 3),
    "KS": range(1, 2),
    "RP": [*range(1, 15), 20],
    "CAL": range(1, 2),
    "F": range(1, 3),
    "P4": range(1, 7),
    "A": range(1, 5),
    "B": range(1, 11),
    "ST": range(1, 2),
    "S12": range(1, 4),
}
TEST_IDS = ["WO", *(f"{family}-{number}" for family in FAMILIES for number in FAMILIES[family])]

MARKS = ("exact", "observed", "published", "by hand")
ANCHORED = re.compile(r'<a id="([^"]+)"></a>\*\*([^*]+)\*\*')


@pytest.fixture(scope="module")
def text() -> str:
    """The page as it is committed."""
    return DOCUMENT.read_text(encoding="utf-8")


def test_the_anchors_are_exactly_the_test_ids_each_once(text: str) -> None:
    """No ID is missing, doubled or unknown, and each anchor is its ID in lower case."""
    anchored = ANCHORED.findall(text)
    assert all(anchor == test_id.lower() for anchor, test_id in anchored)
    assert Counter(test_id for _, test_id in anchored) == Counter(TEST_IDS)
    assert text.count("<a id=") == len(TEST_IDS)


@pytest.mark.parametrize("test_id", TEST_IDS)
def test_an_id_says_how_sure_it_is(text: str, test_id: str) -> None:
    """The row or paragraph of an ID names one of the four marks."""
    line = next(line for line in text.splitlines() if f"**{test_id}**" in line)
    if line.startswith("|"):
        assert line.rstrip("| ").endswith(MARKS)
    else:
        mark = re.search(rf"\*\*{test_id}\*\* \(([^),]+)", line)
        assert mark is not None
        assert mark[1] in MARKS


def heading_slug(heading: str) -> str:
    """The anchor a Markdown renderer gives a heading: words in lower case, joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_within_the_page_lead_somewhere(text: str) -> None:
    """Contents and index point at headings and IDs that exist; the index names every ID."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    targets = {heading_slug(heading) for heading in headings}
    targets |= {anchor for anchor, _ in ANCHORED.findall(text)}
    linked = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert linked <= targets
    assert {test_id.lower() for test_id in TEST_IDS} <= linked


def test_linked_files_exist(text: str) -> None:
    """Relative links to other files of the project resolve."""
    files = re.findall(r"\]\(([^#)][^)]*)\)", text)
    assert files
    assert [file for file in files if not (DOCUMENT.parent / file).exists()] == []
