"""Promises of docs/security.md that the source shows: how signals go, what is connected to, what
takes data as code; and the list of licences.
"""

import ast
import re
from collections.abc import Callable, Iterator
from importlib import metadata

import pytest

from tests.test_docs import named, table_rows
from tests.test_tidy import imported, read, sources
from tests.treefiles import ROOT

SIGNAL_CALLS = frozenset({"killpg", "os.kill", "send_signal", "terminate", "tgkill"})
BY_NUMBER = {
    "pagesoak.engine.processes": "a child that no descriptor could be had for; nobody has waited"
    " for it yet, so its number is still its own",
    "pagesoak.host.faults": "the host kills itself, on purpose",
}
"""Modules that send a signal to a number, and why that is never somebody else's."""
CLIENTS = frozenset(
    {"aiohttp", "ftplib", "httpx", "poplib", "requests", "smtplib", "ssl", "urllib3"}
)
CLIENT_MODULES = re.compile(r"(?:http\.client|urllib\.request|xmlrpc\.client)\b")
"""What fetches something from somewhere."""
LISTENS = {
    "pagesoak.daemon.service": "binds the ports of this machine alone",
    "pagesoak.daemon.passed": "looks where a socket that was passed listens",
    "pagesoak.daemon.units": "says in the unit what the service may",
}
"""Modules that name an address family of the network, and why."""
CODE_MODULES = re.compile(r"(?:yaml|tarfile|multiprocessing\.managers)\b")
"""Readers that make objects or files of their input's choice; a server that runs what it is told.
"""
LICENCES = ROOT / "docs" / "licences.md"


def signal_complaints(module: str, text: str) -> list[str]:
    """A process is never named by a number that may be another's by now."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    named_so = ((node.lineno, ast.unparse(node.func)) for node in calls)
    return [
        f"{module}:{line}: calls {name}"
        for line, name in named_so
        if SIGNAL_CALLS & {name, name.rpartition(".")[2]} and module not in BY_NUMBER
    ]


def network_complaints(module: str, text: str) -> list[str]:
    """Nothing is fetched, and only who listens names a network."""
    complaints = [
        f"{module}:{line}: imports {name}"
        for line, name in imported(module, text)
        if name.split(".")[0] in CLIENTS or CLIENT_MODULES.match(name)
    ]
    if re.search(r"\bAF_INET6?\b|\bcreate_connection\b|\bopen_connection\b", text):
        complaints += [] if module in LISTENS else [f"{module}: names a network"]
    return complaints


def code_complaints(module: str, text: str) -> list[str]:
    """No reader that lets its input choose what becomes of it."""
    return [
        f"{module}:{line}: imports {name}"
        for line, name in imported(module, text)
        if CODE_MODULES.match(name)
    ]


RULES = (signal_complaints, network_complaints, code_complaints)


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps(rule: Callable[[str, str], list[str]]) -> None:
    modules = sources("pagesoak")
    assert BY_NUMBER.keys() | LISTENS.keys() <= modules.keys()
    assert [complaint for item in modules.items() for complaint in rule(*item)] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (signal_complaints, "os.kill(pid, 9)"),
        (signal_complaints, "process.terminate()"),
        (network_complaints, "import http.client"),
        (network_complaints, "from urllib import request"),
        (network_complaints, "socket.socket(socket.AF_INET)"),
        (code_complaints, "import yaml"),
        (code_complaints, "from multiprocessing.managers import SyncManager"),
    ],
)
def test_a_breach_is_caught(rule: Callable[[str, str], list[str]], text: str) -> None:
    assert rule("pagesoak.daemon.some", text)


def test_what_is_allowed_is_in_use() -> None:
    modules = sources("pagesoak")
    for module in BY_NUMBER:
        assert signal_complaints("another", modules[module]), module
    for module in LISTENS:
        assert network_complaints("another", modules[module]), module


def pinned() -> set[str]:
    return {
        line.split("==")[0]
        for line in read("requirements.lock").splitlines()
        if line[:1].isalnum()
    }


def said_by(package: str) -> Iterator[str]:
    """What an installed package says of its licence, in the ways there are."""
    found = metadata.metadata(package)
    for field in ("License-Expression", "License", "Classifier"):
        yield from found.get_all(field) or ()


def test_the_licence_of_every_package_that_is_pinned_is_listed() -> None:
    listed = {named(cells[0])[0]: cells[1] for cells in table_rows(LICENCES.read_text())}
    assert listed.keys() == pinned() | {"uplot"}
    names = (found.metadata["Name"] for found in metadata.distributions())
    for package in pinned() & {name.lower().replace("_", "-") for name in names}:
        family = re.split(r"[-/ ]", listed[package])[0]
        assert family in " ".join(said_by(package)), package
