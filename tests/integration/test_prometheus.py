"""A real Prometheus scrapes a live soak: every query of every panel and rule has data, with the
labels that its legend names; rules and their tests pass Prometheus' own checker.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import scenario_text
from tests.prometheus_helper import MISSING, PROMETHEUS, PROMTOOL, RULES, Prometheus, prometheus
from tests.treefiles import ROOT
from tests.unit.test_dashboards import documents, targets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SLOW_TEST_SECONDS_MAX),
    pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason=MISSING),
]

KILLING = scenario_text(
    loads=(
        {"kind": "bursts", "leave_free": "12MiB", "burst": "6MiB", "think": "100ms",
         "hold": "5ms"},
    ),
    duration="1h",
    host={"latency_per_call": "300ms"},
)  # fmt: skip
"""Small, and its windows so long that bursts die in them."""
ENOUGH_SECONDS = 25
"""Of scraping each second, so that rates over ten seconds and records of records have values."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has watched two runs for a while, one of which kills."""
    folder = tmp_path_factory.mktemp("watched")
    with Daemon(folder) as daemon, prometheus(folder, daemon.port) as started:
        daemon.run("calm", LONG)
        daemon.run("killing", KILLING)
        kills = 'sum(pagesoak_oom_events_total{run="killing", cause="isolated"}) > 0'
        wait_until(lambda: started.query(kills))
        wait_until(lambda: started.query(f"count_over_time(up[1h]) > {ENOUGH_SECONDS}"))
        yield started


def promtool(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_promtool_finds_nothing_wrong_with_the_rules_and_the_configuration() -> None:
    for arguments in (
        ("check", "rules", "dashboards/rules/pagesoak.rules.yml"),
        ("check", "config", "dashboards/prometheus.yml"),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_own_tests_pass_and_fail_when_a_rule_is_spoilt(tmp_path: Path) -> None:
    assert promtool("test", "rules", "pagesoak.rules.test.yml", cwd=RULES).returncode == 0
    for path in RULES.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("> 10\n", "> 1e9\n"))
    assert promtool("test", "rules", "pagesoak.rules.test.yml", cwd=tmp_path).returncode == 1


def names_of_legend(legend: str) -> set[str]:
    return set(re.findall(r"\{\{ *(\w+) *\}\}", legend))


def without_data(watched: Prometheus, expr: str, legend: str) -> str | None:
    """What is wrong with the answer to a query; None when nothing is."""
    result = watched.query(expr)
    if not result:
        return f"no data: {expr}"
    missing = [
        label for label in names_of_legend(legend) if any(label not in s["metric"] for s in result)
    ]
    return f"no label {', '.join(missing)}: {expr}" if missing else None


def test_every_panels_query_has_data_with_the_labels_its_legend_names(
    watched: Prometheus,
) -> None:
    asked = [(each.target["expr"], each.target.get("legendFormat", "")) for each in targets()]
    assert len(asked) > 80
    assert [said for one in asked if (said := without_data(watched, *one))] == []


def test_every_annotation_marks_something_with_the_labels_its_text_names(
    watched: Prometheus,
) -> None:
    marks = [mark for document in documents() for mark in document["annotations"]["list"]]
    asked = [
        # No epoch begins here: there must be something that could have changed.
        (mark["expr"].replace("[1m]) > 0", "[1m]) >= 0"), mark["titleFormat"] + mark["textFormat"])
        for mark in marks
    ]
    assert len(asked) >= 6
    assert [said for one in asked if (said := without_data(watched, *one))] == []


def test_every_choice_offers_something(watched: Prometheus) -> None:
    for document in documents():
        for variable in document["templating"]["list"][1:]:
            query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert query, variable["query"]
            found = {one["metric"].get(query[2]) for one in watched.query(query[1])}
            assert found - {None}, variable["query"]


def test_every_record_has_data(watched: Prometheus) -> None:
    records = re.findall(r"- record: (\S+)", (RULES / "pagesoak.rules.yml").read_text())
    assert len(records) == 6
    assert [name for name in records if not watched.query(name)] == []


def test_what_alerts_ask_for_is_there_and_the_killing_run_raises_one(watched: Prometheus) -> None:
    groups: list[dict[str, Any]] = watched.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []
    for rule in rules:
        expr = re.sub(r'"[^"]*"', "", rule["query"])
        for series in re.findall(r"\b(?:run\w*:)?(?:pagesoak_|up\b|scrape_)[\w:]*", expr):
            assert watched.query(series), rule["query"]
    raised = {
        (alert["labels"]["alertname"], alert["labels"].get("run"))
        for alert in watched.get("alerts")["alerts"]
    }
    assert ("PagesoakKilledByReporting", "killing") in raised
    assert not {name for name, run in raised if run == "calm"} & {
        "PagesoakKilledByReporting", "PagesoakIntegrity", "PagesoakUnclean",
    }  # fmt: skip


def test_a_query_without_data_or_label_is_caught(watched: Prometheus) -> None:
    assert without_data(watched, 'pagesoak_run_info{run="nobody"}', "") is not None
    assert without_data(watched, "pagesoak_run_info", "{{zone}}") is not None
    assert without_data(watched, "pagesoak_run_info", "{{run}}") is None
