"""Which policy a text means: options, packages, files; and what `pagesoak policies` says."""

import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest

from pagesoak.base.errors import InputError
from pagesoak.cli.policies import described, lines
from pagesoak.engine import policy_choice
from pagesoak.engine.policy_choice import find_policy, offered
from pagesoak.reporter.policies import BUILT_IN, policy_by_name
from pagesoak.reporter.policies.halving import Halving
from pagesoak.reporter.policies.options import (
    label,
    option_values,
    options_of,
    split_options,
    with_options,
)
from pagesoak.study.window import WindowSettings, look
from pagesoak.study.window_guests import named_guest
from tests.treefiles import ROOT

HOW_TO = ROOT / "docs" / "policies.md"
LINES_OF_EXAMPLE = 25
"""A complete policy stays an example that is read at a glance."""

PLAIN = """
class Plain:
    name = "plain"

    def at_zone(self, view):
        return ()

    def at_hold(self, order, view, context):
        from pagesoak.reporter.policy import Hold
        return Hold(5)


one = Plain()
number = 5


class Nameless(Plain):
    name = "No Name"


class NoHold:
    name = "no-hold"

    def at_zone(self, view):
        return ()


class Needy(Plain):
    def __init__(self, need):
        self.need = need
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file with policies."""
    file = tmp_path / "plain.py"
    file.write_text(PLAIN)
    return file


# ---- options ----


@dataclass(frozen=True)
class Many:
    """Of every kind one option."""

    name: str = "many"
    whole: int = 3
    maybe: int | None = None
    yes: bool = False
    word: str = "a"
    one_of: Literal["x", "y"] = "x"


def test_kinds_of_options() -> None:
    made = with_options(Many, {"whole": "-4", "maybe": "7", "yes": "true", "word": "b"}, "many")
    assert made == Many(whole=-4, maybe=7, yes=True, word="b")
    assert option_values(made) == {
        "whole": -4, "maybe": 7, "yes": True, "word": "b", "one_of": "x",
    }  # fmt: skip
    assert label(made, "many") == "many:whole=-4,maybe=7,yes=true,word=b"
    assert label(Many(), "many") == "many"
    assert with_options(Many(), {"one_of": "y"}, "many").one_of == "y"
    assert [option.values() for option in options_of(Many)] == [
        "a whole number", "a whole number", "true or false", "a word", "x or y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("halving:budget", "'budget' is none"),
        ("halving:", "'' is none"),
        ("halving:=div", "is none"),
        ("halving:budget=", "is none"),
        ("halving:budget=div,budget=div", "budget is given twice"),
        ("halving:budget=half", "halving: budget must be div or shift, not 'half'"),
        (
            "halving:bugdet=div",
            r"has no option 'bugdet' \(did you mean 'budget'\?\); it has budget",
        ),
        ("mainline:budget=div", "mainline has no option 'budget'; it has none"),
        ("driver-capacity:capacity=33", "driver-capacity: capacity: must be from 1 to 32, not 33"),
        ("driver-capacity:capacity=0", "must be from 1 to 32"),
        ("driver-capacity:capacity=many", "capacity must be a whole number, not 'many'"),
        ("magic", "no policy named 'magic'; known are off, mainline"),
        ("halvin", r"no policy named 'halvin' \(did you mean 'halving'\?\)"),
        ("", "no policy named ''"),
        ("x" * 2000, "is longer than 1000 characters"),
    ],
)
def test_a_text_that_means_no_policy(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        find_policy(text)
    assert caught.value.key == "policy"


def test_a_text_that_means_one() -> None:
    assert find_policy("halving: budget = shift") == Halving("shift")
    assert policy_by_name("halving:budget=shift") == Halving("shift")
    assert split_options("a:b=c,d=e") == ("a", {"b": "c", "d": "e"})


# ---- files ----


def test_a_policy_from_a_file(plain: Path) -> None:
    of_class = find_policy(f"{plain}:Plain", files=True)
    of_object = find_policy(f"{plain}:one", files=True)
    assert (of_class.name, of_object.name) == ("plain", "plain")
    found = look(named_guest(512 << 20, thp=False).with_free(25_600), of_class, WindowSettings())
    assert [len(call.blocks) for call in found.calls] == [5] * 5
    assert "pagesoak_policy_file" not in sys.modules


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("None", "plain.py: policy: has no 'None'"),
        ("number", "is no policy, it has no at_zone"),
        ("NoHold", "is no policy, it has no at_hold"),
        ("Nameless", "its name must be a text of a to z.*, not 'No Name'"),
        ("Needy", "cannot be made: .*need"),
        ("Plain:x=1", "has no option 'x'; it has none"),
    ],
)
def test_what_is_no_policy_in_a_file(plain: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        find_policy(f"{plain}:{name}", files=True)


def test_a_file_that_cannot_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    with pytest.raises(InputError, match=re.escape(f"{file}: policy: no such file")):
        find_policy(f"{file}:One", files=True)
    file.write_text("def broken(:\n")
    with pytest.raises(InputError, match=re.escape(f"{file}:1: policy: ")):
        find_policy(f"{file}:One", files=True)
    file.write_text("raise ValueError('not today')\n")
    with pytest.raises(InputError, match="cannot be loaded: ValueError: not today"):
        find_policy(f"{file}:One", files=True)


def test_files_are_for_the_command_line(plain: Path) -> None:
    with pytest.raises(InputError, match="is named on the command line, with --policy"):
        find_policy(f"{plain}:Plain")


# ---- installed packages ----


@pytest.fixture
def installed(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that offer a policy, one that cannot be loaded, and one named as a built-in."""
    monkeypatch.syspath_prepend(str(plain.parent))
    points = [
        EntryPoint(name, value, policy_choice.GROUP)
        for name, value in (
            ("plain", "plain:Plain"),
            ("gone", "nowhere:Plain"),
            ("mainline", "plain:Plain"),
        )
    ]
    monkeypatch.setattr(policy_choice, "entry_points", lambda group: points if group else [])


@pytest.mark.usefixtures("installed")
def test_a_policy_of_a_package() -> None:
    assert find_policy("plain").name == "plain"
    assert type(find_policy("mainline")) is BUILT_IN["mainline"]
    with pytest.raises(InputError, match=r"gone \(nowhere:Plain\): cannot be loaded: ModuleNot"):
        find_policy("gone")
    with pytest.raises(InputError, match=r"known are off, .*, headroom, gone, plain"):
        find_policy("magic")


def test_offered_without_packages() -> None:
    found = list(offered())
    assert [offer.name for offer in found][: len(BUILT_IN)] == [*BUILT_IN]
    assert {offer.origin for offer in found[: len(BUILT_IN)]} == {"built in"}


# ---- what is said of them ----


def test_every_built_in_policy_says_what_it_is() -> None:
    for offer in offered():
        entry = described(offer)
        assert json.loads(json.dumps(entry)) == entry
        assert entry["name"] == offer.policy.name
        assert "not stated" not in (entry["source"], entry["formula"])
        assert type(entry["isolated_pages_max"]) is int
        assert entry["summary"].endswith(".")
        assert all(option["help"] for option in entry["options"])
        assert all(len(line) <= 60 or " " not in line.strip() for line in lines(entry, 60)[1:])


def test_the_lines_of_a_policy() -> None:
    offer = policy_choice.Offered("reserve", policy_by_name("reserve:budget=shift"), "built in")
    shown = lines(described(offer), 0)
    assert shown[2] == "  isolates  at most 16,384 pages (64 MiB) at once"
    assert shown[4].startswith("  option    budget = div or shift (default: div): ")


# ---- the how-to ----


def example() -> str:
    """The Python of the how-to."""
    [text] = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    return str(text)


def test_the_example_of_the_how_to(tmp_path: Path) -> None:
    text = example()
    assert len(text.splitlines()) <= LINES_OF_EXAMPLE
    file = tmp_path / "share.py"
    file.write_text(text)
    guest = named_guest(512 << 20, thp=False).with_free(25_600)
    least = {}
    for options in ("", ":percent=50"):
        policy = find_policy(f"{file}:Share{options}", files=True)
        found = look(guest, policy, WindowSettings())
        assert sum(len(call.blocks) for call in found.calls) == 25
        least[options] = found.free_pages_min
    assert least == {"": 25_600 - 6 * 1024, ":percent=50": 25_600 - 12 * 1024}


def test_the_how_to_names_every_policy() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", HOW_TO.read_text(), re.MULTILINE)
    assert rows == [*BUILT_IN]


WINDOW_COMMANDS = [
    line.strip().removeprefix("pagesoak ").split()
    for line in HOW_TO.read_text().splitlines()
    if line.startswith("    pagesoak window ") and ".py" not in line
]


@pytest.mark.parametrize("command", WINDOW_COMMANDS, ids=" ".join)
def test_the_commands_of_the_how_to(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pagesoak.cli import window as verb
    from pagesoak.cli.main import application

    monkeypatch.setattr(verb, "load_core", lambda: None)
    app = application()
    stops = command[-1].endswith("each-order") and "10:27" in command[-3]
    if stops:
        with pytest.raises(InputError, match="5120 pages would be lost"):
            app(command, standalone_mode=False)
    else:
        result: Any = app(command, standalone_mode=False)
        assert not result
    assert "least free in a window" in capsys.readouterr().out
