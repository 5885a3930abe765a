"""What the verbs that ask the daemon print: safe, and readable at a glance."""

import re
import subprocess
import sys

import pytest

from pagesoak.base.errors import InputError
from pagesoak.base.run_name import RUN_NAME
from pagesoak.cli.ask import of_run, shown, span
from pagesoak.cli.runs import daemon_text, list_runs, row, run_text
from pagesoak.cli.start import made_up_name
from tests.live_helper import environment

RUN = {
    "run": "a\x1b[2Jb",
    "state": "running",
    "verdict": None,
    "interrupted": False,
    "reason": "bad\nthing",
    "scenario": "s\x07",
    "policy": "off",
    "seed": 1,
    "duration_seconds": 90.0,
    "started": None,
    "finished": None,
    "directory": "/runs/\ta",
    "pid": 1,
    "elapsed_seconds": 3.4,
    "settings": {"policy": "p\x1b"},
    "summary": None,
    "figures": None,
}


def test_what_is_shown_moves_no_cursor() -> None:
    texts = [run_text(RUN), " ".join(row(RUN))]
    daemon = {
        "pagesoak": "1\x1b", "pid": 1, "uptime_seconds": 1, "socket": "s\r", "results": "r\n",
        "chaos": True, "config_problem": "x\x1by", "results_not_stored": 2, "results_lost": 1,
        "storage_problem": "d\x1b", "silent": ["q\x1b"],
        "ended_uncleanly": ["z\x1b"], "runs": [RUN],
        "unwell": [
            {"run": "r\x1b", "worker": "w\x1b", "pid": 1, "how": "h\x1b", "silent_seconds": 3.0}
        ],
    }  # fmt: skip
    texts.append(daemon_text(daemon))
    for text in texts:
        assert all(char.isprintable() or char == "\n" for char in text)
    assert "bad\\nthing" in texts[0]
    assert "degraded" in texts[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0, "0s"), (0.25, "0.2s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"),
        (3600, "1h00m"), (86_399, "23h59m"), (86_400, "1d0h"), (2_592_000, "30d0h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_read_at_a_glance(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_only_a_name_becomes_a_part_of_a_url() -> None:
    assert of_run("seed-512m.2_x") == "/v1/runs/seed-512m.2_x"
    assert of_run("a", "stop") == "/v1/runs/a/stop"
    for wrong in ("", "..", "-a", "A", "a/b", "a b", "a?b", "a%2e", "é", "a\n", "x" * 65):
        with pytest.raises(InputError, match="no run is called") as refused:
            of_run(wrong)
        assert str(refused.value).isprintable()
    assert shown(None) == "-"


def test_a_made_up_name_may_be_one() -> None:

    for scenario in ("seed-512m", "-odd", "x" * 64, "UPPER"):
        name = made_up_name(scenario)
        assert re.fullmatch(RUN_NAME, name), name
        assert made_up_name(scenario) != name
    assert list_runs.__doc__


def test_verbs_that_only_ask_import_nothing_heavy() -> None:
    heavy = {"numpy", "numba", "llvmlite", "uvicorn", "starlette", "httpx", "prometheus_client"}
    for verb in (["list"], ["status"], ["status", "x"], ["--version"], ["stop", "x"]):
        program = (
            f"import sys; sys.argv = ['pagesoak', *{verb}]\n"
            "from pagesoak.__main__ import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            f"print(sorted({heavy} & {{*sys.modules}}), file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env=environment(PAGESOAK_SOCKET="/nonexistent/socket"),
        )  # fmt: skip
        assert done.stderr.splitlines()[-1] == "[]", verb
