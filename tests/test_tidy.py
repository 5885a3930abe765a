"""The house rules, checked on the source itself.

Each rule is a function from a text (and the name of its module) to complaints; one test applies
it to the tree, another feeds it something bad and sees it caught.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pagesoak
from tests.treefiles import ROOT, files_by_git, files_by_walk, tree_files

# ---- the rules ----

WINGS = ("allocator", "reporter", "daemon")

# Lowest first; a module imports from its own floor or below. Packages of one floor do not know
# each other.
FLOORS = (
    ("base", "scenarios"),
    ("allocator",),
    ("reporter", "host"),
    ("engine",),
    ("study",),
    ("daemon",),
    ("cli",),
    ("__main__",),
)

# What one sits down to read at once.
MODULE_LINES_MAX = 400

# The core is driven: it is told the time and the random numbers, and asks nothing of the machine.
CORE_PACKAGES = ("pagesoak.allocator", "pagesoak.reporter")
EDGE_MODULES = frozenset(
    {
        "asyncio",
        "datetime",
        "multiprocessing",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "subprocess",
        "threading",
        "time",
        "uuid",
    }
)
# Modules of the core that stand at an edge: what each may import, and why.
EDGES_ALLOWED: dict[str, dict[str, str]] = {}

UNSAFE_MODULES = frozenset({"dill", "marshal", "pickle", "shelve"})
UNSAFE_CALLS = frozenset({"eval", "exec"})
# Not a dependency: the typer in use does not bring it.
ABSENT_MODULES = frozenset({"click"})

# Words that say a thing is not finished, spelled so that this file does not contain them.
UNFINISHED_WORDS = (
    *map(str.upper, ("todo", "fixme", "xxx")),
    "not implemented error".title().replace(" ", ""),
)
UNFINISHED = re.compile(rf"\b(?:{'|'.join(UNFINISHED_WORDS)})\b")

# Places of one machine. A path that goes on from another name (`proc/root/`) is not meant.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:(?:work|root|farm)/|home/[a-z]|tmp/w\b)")


def link_complaints(root: Path) -> list[str]:
    """The links at the root to the three wings are there, relative, and point to them."""
    complaints = []
    for name in WINGS:
        link, wanted = root / name, Path("pagesoak", name)
        if not link.is_symlink():
            complaints.append(f"{name} is not a symbolic link")
        elif link.readlink() != wanted:
            complaints.append(f"{name} points to {link.readlink()}, not to {wanted}")
        elif not link.is_dir():
            complaints.append(f"{name} points to nothing")
    return complaints


def imported(module: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that is imported, at the top or anywhere else.

    `from a import b` yields `a.b`; whether `b` is a module cannot be seen, nor does it matter.
    `module` is the importing one; a package's own module is named `PACKAGE.__init__`.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def bare_import_complaints(module: str, text: str) -> list[str]:
    """No `import daemon`: that name belongs to somebody else as soon as pagesoak is installed."""
    return [
        f"{module}:{line}: imports {name}; it is called pagesoak.{name}"
        for line, name in imported(module, text)
        if name.split(".")[0] in WINGS
    ]


def floor_complaints(module: str, text: str) -> list[str]:
    """Imports go downwards."""
    floor_of = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
    own = _part(module)
    if own == "__init__":
        return [f"{module}:{line}: imports {name}" for line, name in imported(module, text)]
    if own not in floor_of:
        return [f"{module}: {own} is on no floor"]
    complaints = []
    for line, name in imported(module, text):
        other = _part(name)
        if not name.startswith("pagesoak.") or other in {own, "__version__"}:
            continue
        if other not in floor_of:
            complaints.append(f"{module}:{line}: {name} is on no floor")
        elif floor_of[other] >= floor_of[own]:
            complaints.append(f"{module}:{line}: {own} imports {name}, which is not below it")
    return complaints


def size_complaints(module: str, text: str) -> list[str]:
    """Short enough to read in one sitting."""
    lines = len(text.splitlines())
    return [f"{module}: {lines} lines"] if lines > MODULE_LINES_MAX else []


def docstring_complaints(module: str, text: str) -> list[str]:
    """Each module opens with what it is."""
    return [] if ast.get_docstring(ast.parse(text)) else [f"{module}: no docstring"]


def core_complaints(module: str, text: str) -> list[str]:
    """The core imports no clock, no random source, no thread, no socket and no file system."""
    if not module.startswith(tuple(f"{package}." for package in CORE_PACKAGES)):
        return []
    allowed = EDGES_ALLOWED.get(module, {})
    complaints = [
        f"{module}:{line}: the core imports {name}"
        for line, name in imported(module, text)
        if (top := name.split(".")[0]) in EDGE_MODULES and top not in allowed
    ]
    if re.search(r"\b(?:np|numpy)\.random\b", text):
        complaints.append(f"{module}: the core uses numpy's random source")
    return complaints


def unsafe_complaints(module: str, text: str) -> list[str]:
    """Nothing that runs data as code, no shell, nothing that is not installed."""
    complaints = [
        f"{module}:{line}: imports {name}"
        for line, name in imported(module, text)
        if name.split(".")[0] in UNSAFE_MODULES | ABSENT_MODULES
    ]
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
            complaints.append(f"{module}:{node.lineno}: calls {node.func.id}")
        if any(_opens_shell(keyword) for keyword in node.keywords):
            complaints.append(f"{module}:{node.lineno}: runs a shell")
    return complaints


def unfinished_complaints(name: str, text: str) -> list[str]:
    """Nothing is left for later in what is delivered."""
    return _matches(name, text, UNFINISHED)


def machine_path_complaints(name: str, text: str) -> list[str]:
    """No path that exists on one machine only."""
    return _matches(name, text, MACHINE_PATH)


def lint_reason_complaints(text: str) -> list[str]:
    """In pyproject.toml each rule of the linter that is switched off says why, on its line."""
    complaints = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            inside = line == "[tool.ruff.lint.per-file-ignores]"
        rules = re.findall(r'"[A-Z]+[0-9]*"', line.split("#")[0])
        if line.startswith(("ignore =", "extend-ignore =")):
            inside = True
        if inside and rules and not re.search(r"#\s*\w+", line):
            complaints.append(f"pyproject.toml:{number}: {', '.join(rules)} without a reason")
        if inside and len(rules) > 1:
            complaints.append(f"pyproject.toml:{number}: one rule to a line, each with its reason")
    return complaints


def lock_complaints(project: str, lock: str) -> list[str]:
    """All that pyproject.toml asks for is pinned, with hashes, from no particular place."""
    table = tomllib.loads(project)["project"]
    wanted = [*table["dependencies"], *table["optional-dependencies"]["test"]]
    pins = {line.split("==")[0]: line for line in lock.splitlines() if line[:1].isalnum()}
    required = {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in wanted}
    complaints = [
        f"requirements.lock: {name} is missing" for name in sorted(required - pins.keys())
    ]
    complaints += [
        f"requirements.lock: {name} has no hash"
        for name, line in pins.items()
        if not re.fullmatch(rf"{name}==[^ ]+( ; .+)? \\", line)
    ]
    if "://" in lock or re.search(r"^-(?!-hash)", lock, re.MULTILINE):
        complaints.append("requirements.lock: names a place to install from")
    return complaints


def _part(module: str) -> str:
    """The part of pagesoak a dotted name lies in: `pagesoak.cli.run` is in `cli`."""
    return f"{module}.".split(".")[1]


def _opens_shell(keyword: ast.keyword) -> bool:
    value = keyword.value
    return keyword.arg == "shell" and not (
        isinstance(value, ast.Constant) and value.value is False
    )


def _matches(name: str, text: str, pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in pattern.finditer(line)
    ]


# ---- the tree ----


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sources(*tops: str) -> dict[str, str]:
    """Dotted name and text of each Python file below the given folders."""
    return {
        ".".join(path.with_suffix("").parts): read(str(path))
        for path in tree_files()
        if path.suffix == ".py" and path.parts[0] in tops
    }


def texts() -> dict[str, str]:
    """Name and text of every file of the tree that is text and no recording."""
    found = {}
    for path in tree_files():
        is_recording = path.is_relative_to("tests/recordings") and path.suffix != ".md"
        if is_recording or (ROOT / path).is_symlink():
            continue
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            found[str(path)] = content.decode("utf-8")
    return found


RULES_OF_PAGESOAK = (
    floor_complaints,
    size_complaints,
    docstring_complaints,
    core_complaints,
    unfinished_complaints,
)
RULES_OF_ALL_PYTHON = (bare_import_complaints, unsafe_complaints)


@pytest.mark.parametrize("rule", RULES_OF_PAGESOAK)
def test_pagesoak_keeps(rule: Callable[[str, str], list[str]]) -> None:
    modules = sources("pagesoak")
    assert "pagesoak.__main__" in modules
    assert [complaint for item in modules.items() for complaint in rule(*item)] == []


@pytest.mark.parametrize("rule", RULES_OF_ALL_PYTHON)
def test_all_python_keeps(rule: Callable[[str, str], list[str]]) -> None:
    modules = sources("pagesoak", "tests", "bench", "dashboards")
    assert "tests.test_tidy" in modules
    assert [complaint for item in modules.items() for complaint in rule(*item)] == []


def test_links_to_the_wings() -> None:
    assert link_complaints(ROOT) == []


def test_no_machine_paths() -> None:
    files = texts()
    assert {"soak", "pyproject.toml", "tests/recordings/FACTS.md"} <= files.keys()
    assert [
        complaint for item in files.items() for complaint in machine_path_complaints(*item)
    ] == []


def test_every_ignored_lint_rule_has_a_reason() -> None:
    assert lint_reason_complaints(read("pyproject.toml")) == []


def test_lock_fits_the_project() -> None:
    assert lock_complaints(read("pyproject.toml"), read("requirements.lock")) == []


def test_version_is_said_once_and_again() -> None:
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == pagesoak.__version__


def test_every_edge_is_in_use() -> None:
    modules = sources("pagesoak")
    for module, edges in EDGES_ALLOWED.items():
        used = {name.split(".")[0] for _, name in imported(module, modules[module])}
        assert edges.keys() <= used, f"{module} no longer imports all of {sorted(edges)}"
        assert all(edges.values()), f"{module} stands at an edge without a reason"


def test_tree_is_the_same_with_and_without_git(tmp_path: Path) -> None:
    litter = (
        ".venv/a",
        "dist/a",
        "pagesoak/__pycache__/a.pyc",
        "pagesoak.egg-info/a",
        ".coverage",
    )
    for name in (*litter, "pagesoak/zone.py", "soak"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "link").symlink_to("pagesoak")
    (tmp_path / ".gitignore").write_text(read(".gitignore"))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    wanted = [Path(".gitignore"), Path("link"), Path("pagesoak/zone.py"), Path("soak")]
    assert files_by_git(tmp_path) == wanted
    assert files_by_walk(tmp_path) == wanted


# ---- each rule catches what it is for ----


def test_a_bad_link_is_caught(tmp_path: Path) -> None:
    for name in WINGS:
        (tmp_path / "pagesoak" / name).mkdir(parents=True)
    (tmp_path / "allocator").symlink_to(tmp_path / "pagesoak" / "allocator")
    (tmp_path / "reporter").mkdir()
    (tmp_path / "daemon").symlink_to("pagesoak/daemon")
    (tmp_path / "pagesoak" / "daemon").rmdir()
    absolute, folder, dangling = link_complaints(tmp_path)
    assert absolute.startswith("allocator points to /")
    assert folder == "reporter is not a symbolic link"
    assert dangling == "daemon points to nothing"


@pytest.mark.parametrize(
    "text",
    ["import daemon", "from allocator.zone import Zone", "def f():\n    import reporter.cycle"],
)
def test_a_bare_import_is_caught(text: str) -> None:
    assert bare_import_complaints("tests.some", text)
    assert not bare_import_complaints("tests.some", "from pagesoak import daemon")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("pagesoak.base.units", "import pagesoak.allocator.zone"),
        ("pagesoak.allocator.zone", "from pagesoak.engine import runner"),
        ("pagesoak.allocator.zone", "from pagesoak import cli"),
        ("pagesoak.allocator.zone", "from ..reporter import cycle"),
        ("pagesoak.allocator.__init__", "from ..reporter import cycle"),
        ("pagesoak.reporter.cycle", "from pagesoak.host.ledger import Ledger"),
        ("pagesoak.host.ledger", "def f():\n    from pagesoak.reporter import cycle"),
        ("pagesoak.engine.runner", "from pagesoak import __main__"),
        ("pagesoak.engine.runner", "from pagesoak.attic import thing"),
        ("pagesoak.attic.thing", ""),
        ("pagesoak.__init__", "import os"),
    ],
)
def test_an_import_upwards_is_caught(module: str, text: str) -> None:
    assert floor_complaints(module, text)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (
            "pagesoak.reporter.cycle",
            "from pagesoak.base import units\nfrom . import policies\nimport os",
        ),
        (
            "pagesoak.__main__",
            "from pagesoak import __version__\nfrom pagesoak.cli.main import main",
        ),
        ("pagesoak.cli.run", "from ..engine.runner import run"),
    ],
)
def test_an_import_downwards_is_none(module: str, text: str) -> None:
    assert floor_complaints(module, text) == []


def test_a_long_module_is_caught() -> None:
    assert size_complaints("pagesoak.base.long", "\n" * (MODULE_LINES_MAX + 1))
    assert not size_complaints("pagesoak.base.long", "\n" * MODULE_LINES_MAX)


def test_a_module_without_docstring_is_caught() -> None:
    assert docstring_complaints("pagesoak.base.silent", "x = 1")


@pytest.mark.parametrize(
    "text", ["import time", "from os import path", "import os.path", "x = np.random.default_rng()"]
)
def test_a_core_module_at_an_edge_is_caught(text: str) -> None:
    assert core_complaints("pagesoak.allocator.zone", text)
    assert not core_complaints("pagesoak.engine.live", text)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from click import echo",
        "eval('1')",
        "exec(text)",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
    ],
)
def test_an_unsafe_thing_is_caught(text: str) -> None:
    assert unsafe_complaints("pagesoak.base.unsafe", text)


def test_an_unfinished_thing_is_caught() -> None:
    assert unfinished_complaints("pagesoak.base.half", f"# {'todo'.upper()}: the rest")
    assert not unfinished_complaints("pagesoak.base.half", "# to do it once is enough")


@pytest.mark.parametrize(
    "place", ["work/main", "root/.cache", "farm/x", "home/ada/x", "tmp/w/venv"]
)
def test_a_machine_path_is_caught(place: str) -> None:
    assert machine_path_complaints("docs/x.md", f"see `/{place}`")
    assert not machine_path_complaints("docs/x.md", f"see `proc/{place}`")


def test_a_lint_rule_ignored_without_reason_is_caught() -> None:
    good = '[tool.ruff.lint]\nignore = [\n  "EM",  # why\n]\n'
    assert lint_reason_complaints(good) == []
    assert lint_reason_complaints(good.replace("# why", ""))
    assert lint_reason_complaints(good.replace('"EM"', '"EM", "FBT"'))
    assert lint_reason_complaints('[tool.ruff.lint.per-file-ignores]\n"a/**" = [\n  "S101",\n]\n')
    assert lint_reason_complaints('[tool.ruff.lint.per-file-ignores]\n"a/**" = ["S101"]\n')


def test_a_bad_lock_is_caught() -> None:
    project = '[project]\ndependencies = ["rich>=1"]\n[project.optional-dependencies]\ntest = []\n'
    good = "# via\nrich==15.0.0 ; python_version < '3.12' \\\n    --hash=sha256:0\n    # via x\n"
    assert lock_complaints(project, good) == []
    assert lock_complaints(project, good.replace("rich", "poor"))
    assert lock_complaints(project, "rich==15.0.0\n")
    assert lock_complaints(project, f"--index-url https://somewhere\n{good}")
