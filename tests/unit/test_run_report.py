"""A report says what its run's files say, in every form; it is one file that fetches and runs
nothing, whatever names hold; an empty run and a long one both give a page.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pagesoak.cli.main import main
from pagesoak.study.run_record import open_run
from pagesoak.study.run_report import Told, gather, report_document
from pagesoak.study.run_report_markdown import markdown_text, plain
from pagesoak.study.run_report_page import page_text
from tests.made_runs import (
    MS,
    REPORTER,
    SCENARIO,
    SUMMARY,
    VCPU,
    event,
    killed_burst,
    request,
    window,
    write_run,
)
from tests.test_docs import named, section, table_rows
from tests.treefiles import ROOT

HOSTILE = "<script>alert(1)</script>\x1b[31m\n# $x_1$ |a| [b](javascript:c) \"'&"
VOID = {"meta", "img", "link", "br"}


def told(_summary: dict[str, Any]) -> Told:
    return Told("made: FAIL - it was killed", (("OOM kills", "1 because pages were isolated"),))


def document(directory: Path) -> dict[str, Any]:
    (found,) = report_document([gather(open_run(str(directory), directory.parent), told)])["runs"]
    return found


def page(*directories: Path) -> str:
    return page_text([gather(open_run(str(one), one.parent), told) for one in directories])


def called(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """`pagesoak ARGUMENTS` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pagesoak", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


class Nesting(HTMLParser):
    """Sees whether every element is closed where it was opened, and what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open one."""
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the last that was opened."""
        assert self.open.pop() == tag


# ---- what it says ----


def test_a_report_tells_the_failure_the_windows_and_the_orders(tmp_path: Path) -> None:
    found = document(write_run(tmp_path, killed_burst()))
    assert found["failures_by_outcome"]["killed"]["isolated"] == 1
    (story,) = found["stories"]
    assert story["failure"]["outcome"] == "killed"
    assert found["closest"] == []
    assert found["windows"]["classes"] == [{"seconds_at_most": 0.512, "windows": 1}]
    (longest,) = found["windows"]["longest"]
    assert longest == {
        "opened_seconds": 3.0, "window_seconds": 0.5, "request": 7, "pages": 25_600,
    }  # fmt: skip
    by_order = {row["order"]: row for row in found["orders"]}
    assert by_order[10]["isolated_pages"] == 24_576
    assert by_order[0]["killed"] == 1
    assert by_order[0]["free_blocks_after"] is None
    assert [zone["min_pages"] for zone in found["watermarks"]] == [21, 678]


def test_each_kind_of_failure_has_its_story_the_worst_first(tmp_path: Path) -> None:
    others = [request(5_000, "allocation-failed", cause=2), request(6_000, "stalled", cause=1)]
    found = document(write_run(tmp_path, [*killed_burst(), *others]))
    kinds = [(s["failure"]["outcome"], s["failure"]["cause"]) for s in found["stories"]]
    assert kinds == [("killed", "isolated"), ("failed", "exhausted"), ("stalled", "fragmented")]


def test_page_and_markdown_say_the_same_as_the_document(tmp_path: Path) -> None:
    directory = write_run(tmp_path, killed_burst())
    found = document(directory)
    html, markdown = page(directory), markdown_text([found])
    for said in (found["headline"], *found["stories"][0]["story"]["conclusion"], "24,576"):
        assert plain(said) in markdown
        assert said.replace(">", "&gt;") in html
    assert html.count("data:image/svg+xml;base64,") == 1
    assert "prefers-color-scheme: dark" in html


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    first = write_run(tmp_path, killed_burst(), name="first")
    second = write_run(tmp_path, name="second", summary=SUMMARY | {"policy": "off"})
    html = page(first, second)
    seen = Nesting(html).seen
    assert "2 soaks side by side" in html
    assert [attrs["id"] for tag, attrs in seen if tag == "section"] == ["run-1", "run-2"]
    links = [attrs["href"] for tag, attrs in seen if tag == "a"]
    assert links == ["#run-1", "#run-2"]
    assert re.search(r'<th scope="row">policy</th><td>mainline</td><td>off</td>', html)


# ---- one file that does nothing ----


def hostile(folder: Path) -> Path:
    """A run whose every text tries to be more than that."""
    directory = write_run(
        folder,
        killed_burst(),
        name="<b>&run",
        summary=SUMMARY | {"scenario": HOSTILE, "policy": HOSTILE},
        scenario=SCENARIO | {"name": HOSTILE, "description": HOSTILE},
    )
    (directory / "run.json").write_text(json.dumps({"kernel": HOSTILE, "pagesoak": HOSTILE}))
    (directory / "after.buddyinfo").write_text(HOSTILE)
    return directory


def test_the_page_fetches_and_runs_nothing_whatever_names_hold(tmp_path: Path) -> None:
    html = page(hostile(tmp_path))
    for tag, attrs in Nesting(html).seen:
        assert tag not in {"script", "iframe", "object", "embed", "link", "form", "base", "b"}
        assert not any(name.startswith("on") or name == "style" for name in attrs)
        assert (attrs.get("src") or "data:").startswith("data:image/svg+xml;base64,") or (
            "src" not in attrs
        )
        assert (attrs.get("href") or "#").startswith("#")
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in html
    assert "\x1b" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_hostile_names_stay_text_in_markdown_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = hostile(tmp_path)
    code, markdown, _ = called(capsys, "report", directory, "--format", "md")
    assert code == 0
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[b\]", markdown.partition("## How to make")[0])
    assert "\x1b" not in markdown
    code, out, _ = called(capsys, "report", directory, "--json")
    assert code == 0
    assert "\x1b" not in out
    assert out.count("\n") == 1
    assert json.loads(out)["runs"][0]["run"] == "<b>&run"


# ---- little and much ----


def test_a_run_of_which_nothing_is_there_has_a_page_that_says_so(tmp_path: Path) -> None:
    html = page(write_run(tmp_path, summary=None))
    Nesting(html)
    assert "did not end in order: there is no summary" in html
    assert "note: there is no summary.json" in html
    assert "No page was isolated." in html


def test_a_summary_that_is_not_whole_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_run(tmp_path, killed_burst())
    code, out, err = called(capsys, "report", directory)
    assert (code, out) == (0, f"{directory / 'report.html'}\n")
    assert "summary.json: not all figures are there" in err
    assert (directory / "report.html").read_text().startswith("<!DOCTYPE html>")


def million(folder: Path) -> Path:
    """A run of a million events, and a kill in the middle."""
    burst = {"load": 1, "free_pages": 12_590, "isolated_pages": 0, "pages": 25_600}
    events = []
    for number in range(20_000):
        at_ms = number * 600.0
        events += window(at_ms, number, 40.0 + number % 7)
        for part in range(21):
            events += [
                event(at_ms + 100 + part, VCPU, "burst-begin", **burst),
                event(at_ms + 100.5 + part, VCPU, "burst-end", killed=0, **burst),
            ]
        events.append(event(at_ms + 500, REPORTER, "notify", pfn=512, order=9, state=0))
    assert len(events) == 1_000_000
    events[500_000:500_000] = [request(events[500_000]["monotonic_ns"] / MS - 1_000, "oom")]
    summary = SUMMARY | {"duration_seconds": 12_000.0}
    return write_run(folder, events, name="million", summary=summary)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_a_million_events_has_a_page_of_the_same_size(tmp_path: Path) -> None:
    html = page(million(tmp_path))
    assert len(html) < 2_000_000
    assert ">20,000 in all" in html
    assert html.count("The story of a failure") == 1


# ---- calling it ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing-there",), "no such run"),
        (("latest", "--format", "pdf"), "pdf"),
        (("latest", "-o", "no/such/folder/x.html"), "cannot be written"),
        (("latest",) * 13, "at most 12"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    write_run(tmp_path, killed_burst())
    code, out, err = called(capsys, "report", *arguments, "--results", tmp_path)
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_every_field_of_the_document_is_explained(tmp_path: Path) -> None:
    rows = table_rows(section(ROOT / "docs" / "report.md", "## The report as JSON"))
    explained = [name for cells in rows for name in named(cells[0])]
    assert sorted(explained) == sorted(document(write_run(tmp_path, killed_burst())))
