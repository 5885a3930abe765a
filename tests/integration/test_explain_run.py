"""The story and the picture of a virtual run that kills bursts agree with its summary and its
events.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.units import NS_PER_SECOND
from tests.live_helper import COMPILE_SECONDS_MAX, compile_core, pagesoak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of `seed-512m` on a virtual clock; its directory."""
    compile_core()
    folder = tmp_path_factory.mktemp("explain")
    ended = pagesoak("run", "seed-512m", "--virtual", "--results", folder / "results")
    assert ended.code == 1, ended.err
    (directory,) = (folder / "results").iterdir()
    assert f"how it came about: pagesoak explain {directory}" in ended.out
    return directory


def events(run: Path, **wanted: Any) -> list[dict[str, Any]]:
    found = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [one for one in found if all(one.get(key) == value for key, value in wanted.items())]


def test_the_story_agrees_with_the_summary_and_the_events(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    ended = pagesoak("explain", run, "--all", "--json")
    assert (ended.code, ended.messages) == (0, [])
    found = json.loads(ended.out)
    assert found["failures_by_outcome"]["killed"] == summary["oom_events"] | {"unknown": 0}
    assert found["windows_total"] == summary["report_calls"]
    assert found["windows_incomplete"] == 0
    assert found["isolated_pages_max"] == summary["isolated_pages_max"]

    story = found["story"]
    opened = story["window"]
    (answer,) = events(run, kind="answer", request=opened["request"])
    (drained,) = events(run, kind="drained", request=opened["request"])
    (report,) = events(run, kind="report", request=opened["request"])
    first_kill = events(run, kind="oom")[0]
    assert opened["pages"] == opened["returned_pages"] == report["pages"] == drained["pages"]
    assert sum(one["pages"] for one in opened["pages_by_order"]) == report["pages"]
    opened_ns = answer["monotonic_ns"] - answer["window_ns"]
    assert opened["window_seconds"] == (drained["monotonic_ns"] - opened_ns) / NS_PER_SECOND
    assert opened["window_seconds"] <= summary["window_seconds"]["max"] + 1e-3
    after_ns = drained["monotonic_ns"] - first_kill["monotonic_ns"]
    assert story["returned_after_seconds"] == after_ns / NS_PER_SECOND
    assert story["counterfactual"]["pages_at_least"] > story["counterfactual"]["asked_pages"]


def test_the_text_names_the_request_the_window_and_the_pages_that_came_back(run: Path) -> None:
    found = json.loads(pagesoak("explain", run, "--json").out)["story"]
    text = pagesoak("explain", run).out
    opened = found["window"]
    assert f"request {opened['request']} goes to the host" in text
    assert f"{opened['window_seconds'] * 1000:,.1f} ms after the first isolation" in text
    assert f"{opened['returned_pages']:,} pages" in text.splitlines()[-3]
    assert text.splitlines()[-3].endswith("came back.")


def test_the_picture_of_the_run_is_the_same_bytes_in_another_process(
    run: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / name for name in ("a.png", "b.png", "a.svg", "b.svg")]
    for output in outputs:
        assert pagesoak("timeline", run, "-o", output).code == 0
    first, second, third, fourth = (output.read_bytes() for output in outputs)
    assert first == second
    assert third == fourth
