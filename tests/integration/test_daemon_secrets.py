"""What of a daemon and its runs gets no further than it should: their memory, the page's token,
the environment.
"""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.base import layout
from pagesoak.daemon.api import FILES
from tests.daemon_helper import SLOW_TEST_SECONDS_MAX, descendants, wait_until
from tests.page_helper import PageDaemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

HUSH = "hush-5bd1e995"
SEGMENT, RAM = "/memfd:pagesoak-segment", "/memfd:pagesoak-guest-ram"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageDaemon]:
    monkeypatch.setenv("SOMEBODYS_PASSWORD", HUSH)
    with PageDaemon(tmp_path) as started:
        yield started


def in_memory(pid: int) -> Iterator[tuple[str, int, Path]]:
    """Name, file and descriptor of each file in memory that a process has open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        name = str(descriptor.readlink())
        if name.startswith("/memfd:"):
            yield name.removesuffix(" (deleted)"), descriptor.stat().st_ino, descriptor


def closed_on_execution(descriptor: Path) -> bool:
    text = (descriptor.parents[1] / "fdinfo" / descriptor.name).read_text()
    flags = int(text.partition("flags:")[2].split()[0], 8)
    return bool(flags & os.O_CLOEXEC)


def test_shared_memory_is_open_where_it_is_needed_and_in_no_program_that_is_executed(
    daemon: PageDaemon,
) -> None:
    runners = {name: daemon.run(name)["pid"] for name in ("one", "two")}
    ours = daemon.process.pid
    seen: dict[str, set[int]] = {}
    for runner in runners.values():
        workers = descendants(runner) - {runner}
        assert len(workers) >= 3
        for pid in (runner, *workers):
            for name, file, descriptor in in_memory(pid):
                assert closed_on_execution(descriptor), (pid, name)
                if name in {SEGMENT, RAM}:
                    seen.setdefault(name, set()).add(file)
        here = {file for name, file, _ in in_memory(runner) if name in {SEGMENT, RAM}}
        assert here == {file for pid in workers for _, file, _ in in_memory(pid) if file in here}
        assert len(here) == 2
    assert {name: len(files) for name, files in seen.items()} == {SEGMENT: 2, RAM: 2}
    daemons = list(in_memory(ours))
    assert {file for _, file, _ in daemons} == seen[SEGMENT]
    assert all(closed_on_execution(descriptor) for _, _, descriptor in daemons)


def break_run(runner: int) -> None:
    """Change, from outside, how many pages of its first zone are free: the next audit sees it."""
    place = next(found for name, _, found in in_memory(runner) if name == SEGMENT)
    segment = os.open(place, os.O_RDWR | os.O_CLOEXEC)
    try:
        word = layout.WORD_BYTES
        header = os.pread(segment, layout.HEADER_WORDS * word, 0)
        at = (layout.H_OFFSETS + layout.Section.ZONES) * word
        zone = int.from_bytes(header[at : at + word], "little")
        wrong = (1).to_bytes(word, "little")
        os.pwrite(segment, wrong, zone + layout.Z_FREE_PAGES * word)
    finally:
        os.close(segment)


def test_no_secret_is_in_arguments_logs_results_evidence_or_answers(daemon: PageDaemon) -> None:
    token = daemon.token
    assert token
    record = daemon.run("one")
    for pid in (daemon.process.pid, *descendants(daemon.process.pid)):
        said = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert token.encode() not in said
        assert HUSH.encode() not in said
        assert token.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    targets = [
        "/v1/version", "/v1/status", "/v1/openapi.json", "/v1/runs", "/v1/runs/one", "/metrics",
        "/v1/runs/one/view", "/v1/page", "/healthz", "/metrics/guest?run=one",
        *(f"/v1/runs/one/{file}?follow=false" for file in FILES),
    ]  # fmt: skip
    answers = [daemon.page_get(target) for target in targets]
    assert {status for status, _, _ in answers} == {200}
    break_run(record["pid"])
    wait_until(lambda: daemon.record("one")["pid"] is None)
    assert (daemon.results / "one" / "evidence" / "segment.bin.gz").exists()
    texts = [str(answer).encode() for answer in answers]
    for file in (*daemon.results.rglob("*"), daemon.folder / "daemon.log"):
        if file.is_file():
            content = file.read_bytes()
            texts.append(gzip.decompress(content) if file.suffix == ".gz" else content)
    assert len(texts) > len(targets) + 8
    for secret in (token, HUSH):
        assert not [text[:200] for text in texts if secret.encode() in text]
