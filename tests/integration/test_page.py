"""The page's port: what it serves, under which policy, and who may change something through it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.daemon.page_assets import ASSETS, POLICY
from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.page_helper import PAGE, PageDaemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageDaemon]:
    with PageDaemon(tmp_path_factory.mktemp("page")) as started:
        started.run("one")
        yield started


def token_line(daemon: PageDaemon) -> str:
    return f"Pagesoak-Token: {daemon.token}"


def test_every_file_comes_with_a_strict_policy(daemon: PageDaemon) -> None:
    for path, (_, kind) in ASSETS.items():
        status, headers, body = daemon.page_get(path)
        assert (status, headers["content-type"]) == (200, kind)
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert body
    assert "script-src" not in POLICY
    assert POLICY.startswith("default-src 'self'; ")


def test_a_path_of_no_file_of_the_page_finds_nothing(daemon: PageDaemon) -> None:
    for target in (
        "/page/", "/page/VENDORED.md", "/page/../api.py", "/page/%2e%2e/api.py",
        "/page/..%2fapi.py", "/index.html", "/v1/page/token",
    ):  # fmt: skip
        status, headers, _ = daemon.page_get(target)
        assert status == 404, target
        assert headers["content-security-policy"].startswith("default-src 'none'")


def test_the_view_has_figures_curves_and_watermarks_of_a_run(daemon: PageDaemon) -> None:
    def view() -> dict[str, object]:
        found: dict[str, object] = json.loads(daemon.page_get("/v1/runs/one/view")[2])
        return found

    wait_until(lambda: view()["windows"])
    found = view()
    assert found["zone"] == "DMA"
    assert found["run"]["figures"]["report_calls"] > 0  # type: ignore[index]
    assert len(found["seconds"]) == len(found["free_pages"]) > 1  # type: ignore[arg-type]
    assert daemon.client.get("/v1/runs/one/view").keys() == found.keys()


def test_a_view_of_no_run_or_no_time_is_a_problem(daemon: PageDaemon) -> None:
    assert daemon.page_get("/v1/runs/nobody/view")[0] == 404
    assert daemon.page_get("/v1/runs/one/view?from=nan")[0] == 422
    assert daemon.page_get("/v1/runs/one/view?from=2&to=1")[0] == 422


def test_the_page_changes_nothing_without_the_token(daemon: PageDaemon) -> None:
    order = json.dumps({"run": "two", "scenario_toml": LONG})
    for headers in ((), ("Pagesoak-Token: guessed",), (token_line(daemon), token_line(daemon))):
        status, _, said = daemon.page_ask("POST", "/v1/runs", *headers, body=order)
        assert status == 403
        assert "token" in said
    assert daemon.page_ask("POST", "/v1/runs/one/stop", body="{}")[0] == 403
    assert [run["run"] for run in daemon.client.get("/v1/runs")["runs"]] == ["one"]
    assert daemon.record("one")["state"] == "running"


def test_with_the_token_a_foreign_page_or_host_still_gets_nowhere(daemon: PageDaemon) -> None:
    token = token_line(daemon)
    ask = daemon.page_ask
    foreign = ask("POST", "/v1/runs/one/stop", token, "Origin: http://evil.example", body="{}")
    assert foreign[0] == 403
    assert ask("POST", "/v1/runs/one/stop", token, "Content-Length: 0")[0] == 415
    assert ask("GET", "/", "Host: evil.example")[0] == 421
    assert ask("DELETE", "/v1/runs/one", token, body="{}")[0] == 405
    assert daemon.record("one")["state"] == "running"


def test_with_the_token_soaks_start_and_stop(daemon: PageDaemon) -> None:
    own = f"Origin: {daemon.address.rstrip('/')}"
    order = json.dumps({"run": "three", "scenario_toml": LONG})
    status, headers, _ = daemon.page_ask("POST", "/v1/runs", token_line(daemon), own, body=order)
    assert status == 201
    assert "access-control-allow-origin" not in headers
    wait_until(lambda: daemon.record("three")["state"] == "running")
    assert daemon.page_ask("POST", "/v1/runs/three/stop", token_line(daemon), body="{}")[0] == 202
    wait_until(lambda: daemon.record("three")["state"] == "ended")
    ended = json.loads(daemon.page_get("/v1/runs/three/view")[2])
    assert ended["run"]["summary"]["verdict"] == "pass"
    assert ended["watermark_pages"]["min"] > 0


def test_the_command_prints_the_address_with_the_token(daemon: PageDaemon) -> None:
    assert daemon.cli("page").out == f"{daemon.address}#token={daemon.token}\n"
    found = json.loads(daemon.cli("page", "--json").out)
    assert found == {"address": f"{daemon.address}#token={daemon.token}", "changes": True}
    assert daemon.token not in daemon.log_text


def test_a_page_without_changes_only_shows(tmp_path: Path) -> None:
    with PageDaemon(tmp_path, PAGE) as shown:
        assert shown.token is None
        assert shown.cli("page").out == f"{shown.address}\n"
        status, _, said = shown.page_ask("POST", "/v1/runs", "Pagesoak-Token: None", body="{}")
        assert status == 403
        assert "page.changes" in said
        assert shown.terminate() == 0


def test_without_a_page_there_is_no_address_and_the_command_says_how(tmp_path: Path) -> None:
    with Daemon(tmp_path) as bare:
        assert bare.client.get("/v1/page")["address"] is None
        ended = bare.cli("page")
        assert ended.code == 2
        assert "page.listen" in ended.err
