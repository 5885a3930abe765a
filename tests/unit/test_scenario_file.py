"""Scenario files as texts: finding one, syntax, lines of keys, and writing one."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.base.errors import InputError, PagesoakError
from pagesoak.base.scenario import (
    Scenario,
    find_scenario,
    load_scenario,
    parse_scenario,
)
from pagesoak.base.scenario_file import FILE_BYTES_MAX, key_lines, line_of, parse_toml, toml_text

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


# ---- finding one ----


def test_a_file_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text(LEAST)
    (tmp_path / "idle-512m").write_text(LEAST)
    monkeypatch.chdir(tmp_path)
    assert load_scenario(find_scenario("mine")).name == "least"
    assert load_scenario(find_scenario(tmp_path / "mine")).name == "least"
    assert load_scenario(find_scenario("./idle-512m")).name == "least"
    assert load_scenario(find_scenario("idle-512m")).name == "idle-512m"


def test_an_unknown_name_is_told_what_is_close() -> None:
    with pytest.raises(
        InputError, match=r"no scenario named 'seed-512' \(did you mean 'seed-512m'"
    ):
        find_scenario("seed-512")


@pytest.mark.parametrize("path", ["gone.toml", "./gone", "/", "a/b\0c"])
def test_a_path_that_is_no_file(path: str) -> None:
    with pytest.raises(InputError, match="no such scenario file"):
        find_scenario(path)


# ---- texts that are no TOML ----


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('name = "x"\nduration = \n', "s.toml:2: "),
        ('name = "x"\n\n[guest\n', "s.toml:3: "),
        ("a = 1\na = 2\n", "s.toml:2: "),
        ('name = "x"\n[guest]\nmemory = "512MiB', "s.toml:3: "),
        ('a = 1\nb = """\n\n', "s.toml:3: "),
        ("a = " + "[" * 100_000, "s.toml: "),
        ("a = " + "9" * 10_000, "s.toml: "),
    ],
)
def test_a_mistake_of_syntax_has_its_line(text: str, place: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(text)
    assert str(caught.value).startswith(place)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(b'name = "x"\n# \xff\n')
    with pytest.raises(InputError, match=r"s\.toml:2: is not UTF-8 text"):
        load_scenario(file)
    file.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(InputError, match="is larger than"):
        load_scenario(file)
    with pytest.raises(InputError, match="cannot be read"):
        load_scenario(tmp_path)


# ---- lines of keys ----

ODD_TOML = """\
a = '''
b = 1'''
"q\\u0041" = "x # no comment"  # c = 1
'lit eral' . x = ["[", # d = 1
  "]", ["y"],
] # e = 1

  [ t . "u" ]   # f = 1
g.h = {i = 1, j = "}"}\r
k = \"\"\"\"quoted\\\"\"\" \"\"\"\"\"
[[arr]]
l = 1
[arr.sub]
m = 1
[[arr.inner]]
[[arr.inner]]
n = 1
[[arr]]
[[arr.inner]]
o = 2020-01-01T00:00:00Z
p = 1"""


def test_lines_of_keys() -> None:
    parse_toml(ODD_TOML, "odd.toml")
    lines = key_lines(ODD_TOML)
    assert lines == {
        ("a",): 1,
        ("qA",): 3,
        ("lit eral",): 4,
        ("lit eral", "x"): 4,
        ("t",): 8,
        ("t", "u"): 8,
        ("t", "u", "g"): 9,
        ("t", "u", "g", "h"): 9,
        ("t", "u", "k"): 10,
        ("arr",): 11,
        ("arr", 0): 11,
        ("arr", 0, "l"): 12,
        ("arr", 0, "sub"): 13,
        ("arr", 0, "sub", "m"): 14,
        ("arr", 0, "inner"): 15,
        ("arr", 0, "inner", 0): 15,
        ("arr", 0, "inner", 1): 16,
        ("arr", 0, "inner", 1, "n"): 17,
        ("arr", 1): 18,
        ("arr", 1, "inner"): 19,
        ("arr", 1, "inner", 0): 19,
        ("arr", 1, "inner", 0, "o"): 20,
        ("arr", 1, "inner", 0, "p"): 21,
    }
    assert line_of(lines, ("t", "u", "g", "h", "i")) == 9
    assert line_of(lines, ("nowhere", 3)) is None


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = st.integers() | st.booleans() | TEXTS
TABLES_OF_SCALARS = st.dictionaries(
    st.sampled_from(["memory", "cpus", "kind", "cpu", "types", "speed", "burst", "zz"]),
    SCALARS | st.sampled_from(["replay", "bursts", "steady", "idle"]) | st.lists(SCALARS),
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["name", "duration", "guest", "host", "limits", "load", "odd"]),
    SCALARS | TABLES_OF_SCALARS | st.lists(TABLES_OF_SCALARS, max_size=3),
)


@given(DOCUMENTS)
def test_any_document_is_written_as_it_is_read(document: dict[str, Any]) -> None:
    text = toml_text(document)
    assert parse_toml(text, "s.toml") == document
    lines = key_lines(text)
    for key, value in document.items():
        assert (key,) in lines or value == []
        if isinstance(value, dict):
            for name in value:
                assert line_of(lines, (key, name)) is not None


@given(DOCUMENTS.map(toml_text) | st.text() | st.text(alphabet="[]\"'=\n#.a1{}, \\"))
def test_any_text_is_a_scenario_or_an_input_error(text: str) -> None:
    with contextlib.suppress(PagesoakError):
        parsed(text)
