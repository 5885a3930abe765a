"""Reports in a real Chromium, light and dark, wide and narrow: nothing is cut off, axe-core finds
nothing, and nothing is fetched; of a run with a failure, an empty one, several, and a million
events.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser_helper import (
    ARGUMENTS,
    CHROMIUM,
    SCREENSHOTS,
    SIZES,
    axe,
    needs_chromium,
    playwright,
)
from tests.daemon_helper import SLOW_TEST_SECONDS_MAX
from tests.made_runs import SUMMARY, killed_burst, write_run
from tests.unit.test_run_report import hostile, million, page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX), needs_chromium]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with a report each, by name."""
    folder = tmp_path_factory.mktemp("reports")
    failed = write_run(folder, killed_burst(), name="failed")
    empty = write_run(folder, summary=None, name="empty")
    off = write_run(folder, name="off", summary=SUMMARY | {"policy": "off", "verdict": "pass"})
    made = {
        "failed": page(failed),
        "empty": page(empty),
        "several": page(failed, off, empty),
        "hostile": page(hostile(folder)),
        "million": page(million(folder)),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.mark.parametrize("name", ["failed", "empty", "several", "hostile", "million"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_a_report_is_whole_and_axe_finds_nothing(
    chromium: Any, pages: dict[str, Path], name: str, scheme: str, size: str
) -> None:
    width, height = SIZES[size]
    context = chromium.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": height},
        bypass_csp=True,  # for axe, which is a script; the report has none
    )
    tab = context.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(pages[name].as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / f"report-{name}-{scheme}-{size}.png", full_page=True)
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["impact"]) for each in found] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith(("data:", pages[name].as_uri()))] == []
    context.close()
