"""`docs/scenarios.md` against the models, and the verb that shows scenarios."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.scenario import (
    Scenario,
    builtin_names,
    find_scenario,
    load_scenario,
    parse_scenario,
)
from pagesoak.base.scenario_file import parse_toml, toml_text
from pagesoak.base.scenario_tables import LOADS, TABLES, Head
from pagesoak.cli.scenarios import scenarios

DOCUMENT = Path(__file__).parents[2] / "docs" / "scenarios.md"

LEAST = """\
name = "least"
duration = "1s"
[guest]
memory = "16MiB"
[[load]]
kind = "idle"
"""


def parsed(text: str, folder: Path = Path()) -> Scenario:
    return parse_scenario(text, file="s.toml", folder=folder)


def with_load(load: str, guest: str = 'memory = "512MiB"') -> str:
    return f'name = "x"\nduration = "1s"\n[guest]\n{guest}\n[[load]]\n{load}\n'


# ---- the verb ----


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    scenarios(name=None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "GUEST", "POLICY", "LOADS", "DURATION", "DESCRIPTION"]
    assert [line.split()[0] for line in lines[1:]] == list(builtin_names())
    start = lines[0].index("POLICY")
    assert {line[start:].split()[0] for line in lines[1:]} == {"mainline"}


def test_the_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    scenarios(name=None, as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert tuple(entry["name"] for entry in json.loads(out)["scenarios"]) == builtin_names()


def test_one_shown_is_a_scenario_again(capsys: pytest.CaptureFixture[str]) -> None:
    scenarios(name="seed-512m", as_json=False)
    out = capsys.readouterr().out
    scenario = load_scenario(find_scenario("seed-512m"))
    assert parsed(out) == scenario
    resolved = out.split("# ---- with every default, this is ----\n")[1]
    assert parsed(re.sub(r"^# ?", "", resolved, flags=re.MULTILINE)) == scenario


def test_one_shown_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    scenarios(name="idle-512m", as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    shown = json.loads(out)
    assert parsed(shown["text"]).as_json() == shown["scenario"]


# ---- the reference ----


def documented_keys() -> dict[str, dict[str, str]]:
    """Heading to key to the default it is documented with."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ").replace("`", "")
        elif match := re.match(r"\| `([a-z_]+)` \|[^|]*\|([^|]*)\|", line):
            found.setdefault(heading, {})[match.group(1)] = match.group(2).strip()
    return found


def test_the_reference_names_every_key_and_no_other() -> None:
    documented = documented_keys()
    for name, model in TABLES.items():
        assert documented[f"[{name}]"].keys() == model.defaults().keys()
    for kind, load in LOADS.items():
        keys = {"kind", *documented.get(f'kind = "{kind}"', {})}
        assert keys == load.defaults().keys()
    assert documented["Above the first table"].keys() == Head.defaults().keys()


def test_the_reference_tells_the_defaults() -> None:
    documented = documented_keys()
    for name, model in [*TABLES.items(), *LOADS.items()]:
        place = f"[{name}]" if name in TABLES else f'kind = "{name}"'
        required = {model.key_of(key) for key in model.model_fields if key != "kind"}
        told = {
            key: default.strip("`")
            for key, default in documented.get(place, {}).items()
            if default.startswith("`")
        }
        assert told.keys() <= required
        document = parse_toml("".join(f"{key} = {text}\n" for key, text in told.items()), name)
        minimal = {"bursts": 'leave_free="4M"\nburst="4M"\nthink="1s"\nhold="1s"'}
        minimal |= {"steady": 'target = "4MiB"', "files": 'files = "4MiB"'}
        given = minimal.get(name, "")
        if name in LOADS:
            text = f'kind = "{name}"\n{given}' + ('\nrecording = "."' * (name == "replay"))
            table: Any = parsed(with_load(text)).loads[0]
        else:
            table = getattr(parsed(LEAST), name)
        same = {key: value for key, value in table.document().items() if key in told}
        assert toml_text(same) == toml_text({**document, **zeros(document)})


def zeros(document: dict[str, Any]) -> dict[str, Any]:
    """A zero without unit as it is written with one."""
    return {key: "0B" for key, value in document.items() if value == "0"}


def test_the_complete_example_loads() -> None:
    text = DOCUMENT.read_text().split("```toml\n")[1].split("```")[0]
    scenario = parsed(text)
    for name, model in TABLES.items():
        left_out = {"snapshot", "recording"} if name == "guest" else set()
        assert parse_toml(text, "example")[name].keys() == model.defaults().keys() - left_out
    assert [load.kind for load in scenario.loads] == ["steady", "bursts"]
