"""What the pages for newcomers say is so: fields, events, files, links, commands, examples.

The pages are compared with the program in both directions where they claim to be complete: nothing
is missing, and nothing is described that does not exist.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from pagesoak.base import errors
from pagesoak.base.recorder import FIELDS
from pagesoak.base.scenario import parse_scenario
from pagesoak.base.statistics import CAUSES
from pagesoak.cli.main import application
from pagesoak.cli.summary_text import summary_rows
from pagesoak.engine.recovery_figures import EVENTS
from pagesoak.engine.series import COLUMNS
from pagesoak.study.compare_folder import CompareFolder
from pagesoak.study.explain import document, explain_run
from pagesoak.study.report_windows import STATES
from pagesoak.study.run_record import open_run
from pagesoak.study.timeline import picture_of
from tests.compare_helper import comparison
from tests.compare_helper import run as compared_run
from tests.made_runs import killed_burst, write_run
from tests.treefiles import ROOT

README = ROOT / "README.md"
SUMMARY = ROOT / "docs" / "summary.md"
RESULTS = ROOT / "docs" / "results.md"
EXPLAIN = ROOT / "docs" / "explain.md"
COMPARE = ROOT / "docs" / "compare.md"
PAGES = (README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
OWN_PLACES = tuple(page for page in PAGES if page.name != "model.md")
"""Pages that name places of this repository only; the model names those of its sources, too."""

IDLE = """
name = "idle"
duration = "200ms"
[guest]
memory = "32MiB"
[reporting]
delay = "10ms"
[[load]]
kind = "idle"
"""
SHELL_VERBS = frozenset({"test"})
"""Verbs of `./soak` that the script itself serves."""
ONLY_AFTER_A_FAULT = frozenset({"WORKER.error", "evidence/"})
TYPER_OWN_OPTIONS = frozenset({"--help"})


class Run(NamedTuple):
    """A run from outside: the summary on standard output, and its directory."""

    summary: dict[str, Any]
    directory: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run of a small idle guest, in plain Python, which needs no compiling."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "idle.toml").write_text(IDLE)
    done = subprocess.run(
        [sys.executable, "-m", "pagesoak", "run", "idle.toml", "--json", "--results", "results"],
        cwd=folder,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (directory,) = (folder / "results").iterdir()
    return Run(json.loads(done.stdout.splitlines()[-1]), directory)


# ---- reading the pages ----


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next heading of that rank or a higher one."""
    rank = heading.split(" ", maxsplit=1)[0]
    _, found, after = text_of(page).partition(f"{heading}\n")
    assert found, f"{page.name} has no {heading!r}"
    return re.split(rf"^#{{1,{len(rank)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every row that begins with a name in backticks."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `"):
            yield cells


def named(cell: str) -> list[str]:
    """The names in backticks, in order."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def dotted(value: Any, name: str = "") -> Iterator[str]:
    """The dotted names of all that is no object; `[]` after the name of a list of objects."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from dotted(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from dotted(value[0], f"{name}[]")
    else:
        yield name


def heading_slugs(page: Path) -> set[str]:
    """What a link into a page may name: its headings as a renderer names them, and its anchors."""
    text = text_of(page)
    slugs = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


# ---- the summary ----


def test_every_field_of_a_summary_is_explained_once(run: Run) -> None:
    explained = [
        cells[0].strip("`")
        for part in re.split(r"^## ", text_of(SUMMARY), flags=re.MULTILINE)[1:]
        if not part.startswith(("Verdict", "Why"))
        for cells in table_rows(part)
    ]
    assert sorted(explained) == sorted(dotted(run.summary))


def test_every_cause_and_exit_code_is_explained() -> None:
    rows = table_rows(section(SUMMARY, "## Why an allocation got nothing"))
    assert tuple(cells[0].strip("`") for cells in rows) == CAUSES
    codes = {
        errors.EXIT_PASS,
        errors.EXIT_LIMITS_BROKEN,
        errors.EXIT_USAGE,
        errors.EXIT_HARNESS_BROKEN,
        errors.EXIT_INTERRUPTED,
    }
    for text in (
        section(SUMMARY, "## Verdict and exit code"),
        section(README, "## What comes out"),
    ):
        assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes


# ---- the directory of a run ----


def test_every_file_of_a_run_is_explained(run: Run) -> None:
    page = text_of(RESULTS).split("## Events")[0]
    explained = {cells[0].strip("`") for cells in table_rows(page)}
    assert {path.name for path in run.directory.iterdir()} == explained - ONLY_AFTER_A_FAULT


def test_every_event_and_its_fields_are_explained() -> None:
    explained = {
        cells[0].strip("`"): tuple(named(cells[1]))
        for cells in table_rows(section(RESULTS, "## Events"))
    }
    assert explained == dict(FIELDS.values())


def test_every_event_of_the_runner_and_its_fields_are_explained() -> None:
    explained = {
        cells[0].strip("`"): tuple(named(cells[1]))
        for cells in table_rows(section(RESULTS, "## Events of faults"))
    }
    assert explained == EVENTS


def test_every_column_of_the_series_is_explained_in_its_order(run: Run) -> None:
    explained = [cells[0].strip("`") for cells in table_rows(section(RESULTS, "## Series"))]
    assert explained == [column.name for column in COLUMNS]
    header = (run.directory / "series.csv").read_text().splitlines()[0]
    assert header.split(",") == explained


# ---- what is said of a finished run ----


def named_fields(heading: str) -> list[str]:
    """The names in the first column of a table of the page about finished runs."""
    text = section(EXPLAIN, heading).split("\n#", maxsplit=1)[0]
    return [name for cells in table_rows(text) for name in named(cells[0])]


def test_every_field_of_a_story_is_explained(tmp_path: Path) -> None:
    told = open_run(str(write_run(tmp_path, killed_burst())), tmp_path)
    found = document(explain_run(told), listed=True)
    nothing = open_run(str(write_run(tmp_path / "idle")), tmp_path)
    without = document(explain_run(nothing), listed=False)
    assert set(named_fields("### As JSON")) == found.keys() | without.keys()
    assert set(named_fields("#### A record")) == found["failure"].keys()
    assert set(named_fields("#### The story")) == found["story"].keys()
    paragraph = section(EXPLAIN, "#### The story").split("A `window` has")[1]
    window = found["story"]["window"]
    assert set(named(paragraph)) == window.keys() | window["pages_by_order"][0].keys()
    states = [cells[0].strip("`") for cells in table_rows(text_of(EXPLAIN).split("### As")[0])]
    assert sorted(states) == sorted(STATES)


def test_every_field_of_a_drawn_picture_is_explained(tmp_path: Path) -> None:
    told = open_run(str(write_run(tmp_path, killed_burst())), tmp_path)
    fields = named_fields("## The picture of a run")
    assert set(fields) == picture_of(told).document([]).keys()


# ---- a comparison ----


def test_every_field_of_a_comparison_is_explained_once(tmp_path: Path) -> None:
    kills = [[compared_run(seed, isolated=count) for seed in range(1, 9)] for count in (1, 2)]
    folder = CompareFolder(tmp_path, 0.0, ())
    document = folder.keep(comparison("mainline,halving", *kills), 1.0, 1.0)
    assert json.loads((tmp_path / "compare.json").read_text()) == document
    optional = {"variants[].changes", "variants[].totals"}
    optional.add("variants[].totals.isolated_kills_per_burst")
    explained = [cells[0].strip("`") for cells in table_rows(section(COMPARE, "## The object"))]
    assert sorted(explained) == sorted({*dotted(document), *optional})


def test_every_option_of_compare_is_explained() -> None:
    verb = typer.main.get_command(application()).commands["compare"]  # type: ignore[attr-defined]
    known = {parameter.opts[0] for parameter in verb.params if parameter.opts[0].startswith("-")}
    text = text_of(COMPARE).split("## An example")[0]
    explained = {named(cells[0])[0].split()[0] for cells in table_rows(text)}
    assert explained == known


# ---- links and places ----


def links(page: Path) -> list[str]:
    """Targets of the links of a page that lead to a place in this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in heading_slugs(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", OWN_PLACES, ids=lambda page: page.name)
def test_folders_and_modules_that_are_named_exist(page: Path) -> None:
    places = re.findall(r"`((?:pagesoak|tests|docs|bench)/[\w./-]*)`", text_of(page))
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_the_readme_shows_every_room() -> None:
    rooms = {
        path.name for path in (ROOT / "pagesoak").iterdir() if (path / "__init__.py").exists()
    }
    shown = set(
        re.findall(r"`pagesoak/(\w+)/`", section(README, "## Where each room of the house is"))
    )
    assert shown == rooms


# ---- commands and examples ----


def commands() -> list[list[str]]:
    """The words of each `./soak` call in the README's shell blocks, up to a pipe or a comment."""
    lines = "".join(blocks(text_of(README), "sh")).splitlines()
    calls = [re.split(r"\s[#|>]", line)[0].split() for line in lines if line.startswith("./soak")]
    assert calls
    return calls


def test_the_readmes_commands_exist_with_their_options() -> None:
    verbs = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    for _, verb, *words in commands():
        assert verb in verbs.keys() | SHELL_VERBS, verb
        known = (
            {option for parameter in verbs[verb].params for option in parameter.opts}
            if verb in verbs
            else set()
        )
        assert {word for word in words if word.startswith("--")} <= known | TYPER_OWN_OPTIONS


def test_the_readmes_scenarios_load(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text("")
    examples = blocks(text_of(README), "toml")
    assert len(examples) == 2
    for example in examples:
        assert parse_scenario(example, file="README.md", folder=tmp_path).name


def test_what_the_readme_shows_is_what_the_program_prints(run: Run) -> None:
    everything = {
        "bursts": {"run": 1, "killed": 1},
        "report_calls": 1,
        "window_seconds": run.summary["window_seconds"] | {"count": 1},
        "limits_broken": ["oom_events_isolated_max = 0, found 1"],
    }
    labels = {label for label, _ in summary_rows(run.summary | everything)} | {"results"}
    shown = "".join(blocks(text_of(README), "text"))
    rows = re.findall(r"^(\w[\w ()]+?) {2,}\S", shown, re.MULTILINE)
    assert rows
    assert set(rows) <= labels
