"""`pagesoak compare` refuses what it cannot do before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.errors import InputError
from pagesoak.cli.compare import SEEDS, compare
from tests.compare_helper import SCENARIO


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The caller's, with a scenario in it."""
    (tmp_path / "made.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(**options: Any) -> None:
    """The verb, with every option that is not given as it is without."""
    usual: dict[str, Any] = {
        "scenario": "made.toml",
        "policies": "off,mainline",
        "changed": None,
        "seeds": SEEDS,
        "baseline": None,
        "virtual": True,
        "duration": None,
        "seed": None,
        "results": Path("results"),
        "as_json": False,
        "html": None,
        "plot": None,
    }
    compare(**(usual | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "seed-512"}, "no scenario named 'seed-512' .did you mean 'seed-512m'"),
        ({"policies": "off,magic"}, "^--policies: no policy named 'magic'"),
        ({"policies": "off,off"}, "^--policies: off is the same as off"),
        ({"policies": "off"}, "^--policies: a comparison needs two at least"),
        ({"seeds": 0}, "^--seeds: must be from 1 to 256, not 0"),
        ({"changed": ["host.latncy_per_call=1s"]}, "^--with: a scenario has no key"),
        ({"baseline": "magic"}, "^--baseline: 'magic' is not among them; they are off, mainline"),
        ({"duration": "1"}, "^--duration: "),
        ({"plot": Path("c.jpg")}, "^--plot: c.jpg must end in .png or .svg"),
        ({"html": Path("no/c.html")}, "^no/c.html: --html: cannot be written"),
        ({"html": Path()}, "^.: --html: cannot be written"),
        ({"html": Path("/proc/version")}, "^/proc/version: --html: cannot be written"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_with_its_option(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(**options)
    assert [path.name for path in folder.iterdir()] == ["made.toml"]


def test_a_file_that_is_there_is_not_touched_before_the_end(folder: Path) -> None:
    page = folder / "c.html"
    page.write_text("before")
    with pytest.raises(InputError):
        call(html=page, policies="off,magic")
    assert page.read_text() == "before"
