"""The dashboards' files are what the code makes, keep the rules of Grafana's own linter, show
every series, and lead from every alert to a page that says what to do.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from dashboards import build, panels
from pagesoak.daemon.record import State
from tests.treefiles import ROOT

JSON = ROOT / "dashboards" / "json"
RULES = ROOT / "dashboards" / "rules" / "pagesoak.rules.yml"
ALERTS = ROOT / "docs" / "alerts.md"
WITH_UNIT = {"stat", "table", "timeseries", "heatmap", "state-timeline"}
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "process_resident_memory_bytes"}
"""Series that are shown and are not the daemon's own."""
DELIBERATELY_NOT_SHOWN: dict[str, str] = {}
"""Series that no panel and no rule uses, with the reason."""


class Target(NamedTuple):
    """A query of a panel."""

    dashboard: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.dashboard}: {self.panel['title']}: {self.target['expr']}"


def documents() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(JSON.glob("*.json"))]


def shown(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that are no headings."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def targets() -> Iterator[Target]:
    for document in documents():
        for panel in shown(document):
            for target in panel["targets"]:
                yield Target(document["title"], panel, target)


def complaints(document: dict[str, Any]) -> list[str]:
    """What the rules of Grafana's dashboard-linter find, for one dashboard."""
    found = []
    variables = {variable["name"]: variable for variable in document["templating"]["list"]}
    if document.get("editable") is not False:
        found.append("can be edited")
    if variables.get("datasource", {}).get("query") != "prometheus":
        found.append("no data source to choose")
    for name in ("job", "instance"):
        variable = variables.get(name)
        if variable is None:
            found.append(f"no variable {name}")
        elif not (
            variable["label"]
            and variable["multi"]
            and variable["includeAll"]
            and variable["allValue"] == ".+"
            and variable["refresh"] == 2
            and variable["datasource"]["uid"] == "${datasource}"
        ):
            found.append(f"variable {name} is not as it should be")
    for panel in shown(document):
        found += [f"{panel.get('title')!r}: {said}" for said in _of_panel(panel)]
    return found


def _of_panel(panel: dict[str, Any]) -> Iterator[str]:
    if not panel.get("title") or len(panel.get("description", "")) < 8:
        yield "no title or no description"
    if panel["type"] in WITH_UNIT and not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield "another data source"
    if not panel["targets"]:
        yield "no query"
    for target in panel["targets"]:
        expr = target["expr"]
        selectors = re.findall(r"\{([^}]*)\}", expr)
        if not selectors or any(
            f'{label}=~"${label}"' not in selector
            for selector in selectors
            for label in ("job", "instance")
        ):
            yield f"job or instance is not chosen in {expr}"
        allowed = {"$__rate_interval"} | ({"$__range"} if target.get("instant") else set())
        for call, interval in re.findall(r"\b(rate|increase)\([^\[]*\[([^\]]*)\]", expr):
            if interval not in allowed:
                yield f"{call} over {interval}"


# ---- the files ----


def test_the_files_are_what_the_code_makes_byte_for_byte() -> None:
    made = build.files()
    assert {path.name for path in JSON.iterdir()} == made.keys()
    for name, text in made.items():
        assert (JSON / name).read_bytes() == text.encode(), (
            f"{name} is old: run `python -m dashboards.build`"
        )


def test_dashboards_are_made_for_the_grafana_of_the_pinned_builder() -> None:
    assert {document["schemaVersion"] for document in documents()} == {42}
    assert len({document["uid"] for document in documents()}) == len(documents()) == 3


@pytest.mark.parametrize("document", documents(), ids=lambda document: document["uid"])
def test_a_dashboard_keeps_the_linters_rules(document: dict[str, Any]) -> None:
    assert complaints(document) == []


@pytest.mark.parametrize("document", documents(), ids=lambda document: document["uid"])
def test_no_panel_lies_on_another_or_beside_the_grid(document: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in document["panels"]:
        grid = panel["gridPos"]
        left, top = grid.get("x", 0), grid.get("y", 0)
        assert left + grid["w"] <= 24, panel["title"]
        for column in range(left, left + grid["w"]):
            for line in range(top, top + grid["h"]):
                other = taken.setdefault((column, line), panel["title"])
                assert other == panel["title"], f"{panel['title']} lies on {other}"
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda panel: panel.pop("description"), "no description"),
        (lambda panel: panel["fieldConfig"]["defaults"].pop("unit"), "no unit"),
        (lambda panel: panel.update(targets=[]), "no query"),
        (lambda panel: panel["targets"][0].update(expr="up"), "job or instance"),
        (
            lambda panel: panel["targets"][0].update(
                expr='rate(up{job=~"$job", instance=~"$instance"}[5m])'
            ),
            "rate over 5m",
        ),
    ],
)
def test_a_bad_panel_is_caught(spoil: Any, said: str) -> None:
    document = documents()[0]
    spoil(shown(document)[0])
    assert said in "".join(complaints(document))


def test_every_state_of_a_run_is_shown_by_its_name() -> None:
    names = {name for name, _ in panels.STATES.values()}
    assert names == {state.value for state in State} - {State.REFUSED}


# ---- the series ----


def exported() -> set[str]:
    """The daemon's own series, as its page lists them; a test holds that they are all."""
    page = (ROOT / "docs" / "daemon.md").read_text().partition("### Series\n")[2]
    return set(re.findall(r"^\| `(pagesoak_\w+)`", page, re.MULTILINE))


def used(text: str) -> set[str]:
    """Names of series in a text, as they are exported: a histogram has its parts below it."""
    names = set(re.findall(r"(?<![\w:])(pagesoak_\w+)", text))
    return {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in names}


def test_every_series_is_shown_somewhere_or_left_out_on_purpose() -> None:
    expressions = " ".join(each.target["expr"] for each in targets())
    found = used(expressions) | used(RULES.read_text())
    assert exported() - found == DELIBERATELY_NOT_SHOWN.keys()


def test_nothing_is_asked_for_that_no_daemon_exports() -> None:
    for each in targets():
        names = set(re.findall(r"([a-z_]+)\{", each.target["expr"]))
        known = {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in names}
        assert known <= exported() | OF_PROMETHEUS, each.name


# ---- alerts ----


def alerts() -> dict[str, str]:
    """Names of the alerts, and where their pages are."""
    text = RULES.read_text()
    names = re.findall(r"- alert: (\w+)", text)
    places = re.findall(r"runbook_url: (\S+)", text)
    assert len(names) == len(places) == text.count("summary:") == text.count("description:")
    return dict(zip(names, places, strict=True))


def test_every_alert_has_a_page_that_says_what_to_do() -> None:
    headings = re.findall(r"^## (\w+)$", ALERTS.read_text(), re.MULTILINE)
    assert alerts() == {name: f"docs/alerts.md#{name.lower()}" for name in headings}


def test_every_alert_is_seen_to_fire_in_the_rules_own_tests() -> None:
    tests = (RULES.parent / "pagesoak.rules.test.yml").read_text()
    fired = re.compile(r'alertname="(\w+)".*value: 1|alertname: (\w+)\n *exp_alerts:\n *- ')
    seen = {name for pair in fired.findall(tests) for name in pair if name}
    assert seen == alerts().keys()
