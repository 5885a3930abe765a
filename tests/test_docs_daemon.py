"""The pages about the daemon say what is so: keys, commands, paths, and tests that hold."""

import re
from fnmatch import fnmatch

import pytest
import typer

from pagesoak.base import layout
from pagesoak.base.statistics import Statistics
from pagesoak.cli.main import VERBS, application
from pagesoak.daemon.api import Api
from pagesoak.daemon.config import TABLES
from pagesoak.daemon.metrics_guest import GuestCollector
from pagesoak.daemon.openapi import description
from pagesoak.daemon.reading import Reading
from pagesoak.engine.settings import KEYS
from tests.test_docs import named, section, table_rows, text_of
from tests.treefiles import ROOT

DAEMON = ROOT / "docs" / "daemon.md"
SECURITY = ROOT / "docs" / "security.md"
FAULTS = ROOT / "docs" / "faults.md"
ASKING = {
    "serve", "start", "list", "status", "stop", "pause", "resume", "set", "events", "logs",
    "attach", "page", "systemd", "chaos", "doctor",
}  # fmt: skip


def test_every_key_of_the_configuration_is_explained_with_its_default() -> None:
    keys = {f"{table}.{key}" for table, model in TABLES.items() for key in model.defaults()}
    explained = {named(cells[0])[0] for cells in table_rows(section(DAEMON, "## Configuration"))}
    assert explained == keys


def test_every_key_that_can_be_set_is_explained() -> None:
    rows = table_rows(section(DAEMON, "## Changing a soak that runs"))
    assert [named(cells[0])[0] for cells in rows] == list(KEYS)


def test_every_command_of_the_daemon_is_explained() -> None:
    explained = {named(cells[0])[0] for cells in table_rows(section(DAEMON, "## Commands"))}
    assert explained == ASKING
    assert explained <= VERBS.keys()


def test_every_command_that_asks_takes_json() -> None:
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    for verb in ASKING:
        options = {option for parameter in commands[verb].params for option in parameter.opts}
        assert "--json" in options, verb


def operations() -> set[str]:
    """Methods and paths of the routes that there are."""
    api = Api(None, None, lambda: False)  # type: ignore[arg-type]
    routes = api.control()._app.routes  # type: ignore[attr-defined]
    found = set()
    for route in routes:
        found |= {f"{method} {route.path}" for method in route.methods - {"HEAD"}}
    return found


def test_every_path_is_in_the_page_and_in_the_description() -> None:
    explained = {
        named(cells[0])[0] for cells in table_rows(section(DAEMON, "## The HTTP interface"))
    }
    assert explained == operations()
    described = {
        f"{method.upper()} {path}"
        for path, methods in description()["paths"].items()
        for method in methods
    }
    assert described == operations()


def guest_names() -> list[str]:
    """The series of a guest with one zone, in their order."""
    nothing = Statistics((0,) * layout.COUNTERS, (), 0)
    reading = Reading(0, nothing, (), ((0,) * layout.ZONE_WORDS,), (), ())
    return [family.name for family in GuestCollector(reading).collect()]


def test_every_series_of_the_guest_is_explained_and_none_that_is_left_out_is_there() -> None:
    tables = section(DAEMON, "### Series of the guest").split("| left out | why |")
    explained, left_out = (
        [name for cells in table_rows(table) for name in named(cells[0])] for table in tables
    )
    assert explained == guest_names()
    assert "node_memory_MemAvailable_bytes" in left_out
    for pattern in left_out:
        assert not [name for name in explained if fnmatch(name, pattern)], pattern


def test_every_reference_of_the_description_leads_somewhere() -> None:
    document = description()
    text = str(document)
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names
    assert names <= document["components"]["schemas"].keys()


@pytest.mark.parametrize(
    "points", [text_of(SECURITY), text_of(FAULTS).partition("## Where each is tested")[2]]
)
def test_every_point_of_a_page_that_promises_is_held_by_a_test_that_exists(points: str) -> None:
    lines = [line for line in points.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 15
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for point in lines:
        held_by = re.findall(r"`(test_\w+)`", point.split(" | ")[-1])
        assert held_by, point
        for name in held_by:
            assert f"def {name}(" in tests, name
