"""The words of the shared segment are named in several modules; no two names share a place."""

import re
from collections import defaultdict

from tests.treefiles import ROOT

WORD = re.compile(r"^([A-Z])_([A-Z0-9_]+) = (\d+)\b", re.MULTILINE)
"""A word of a record: the record's letter, the name, the place."""


def test_no_two_words_of_a_record_share_a_place() -> None:
    named: dict[tuple[str, int], list[str]] = defaultdict(list)
    for module in sorted((ROOT / "pagesoak" / "base").glob("layout*.py")):
        for record, name, place in WORD.findall(module.read_text()):
            named[record, int(place)].append(f"{module.name}: {record}_{name}")
    assert len(named) > 100
    assert [names for names in named.values() if len(names) > 1] == []
