"""The command line's client, before something else than a daemon of its version."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pagesoak.daemon.client import API_VERSION, Client, NoDaemonError, RefusedError
from tests.live_helper import pagesoak

OURS = f"Pagesoak-Api: {API_VERSION}\r\n"


@contextmanager
def answering(folder: Path, answer: bytes) -> Iterator[Path]:
    """A socket at which one request is answered so."""
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection = listener.accept()[0]
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        thread.join()


def http(status: str, headers: str, body: str) -> bytes:
    """An answer."""
    return f"HTTP/1.1 {status}\r\n{headers}\r\n{body}".encode()


FOREIGN = [
    (http("200 OK", "", "{}"), "is no pagesoak daemon: its answer names no version"),
    (http("307 Elsewhere", "Location: /\r\n", ""), "is no pagesoak daemon"),
    (http("200 OK", "pagesoak-api: 2\r\n", "{}"), "another version of its interface"),
    (http("400 No", "PAGESOAK-API: 2\r\n", "{}"), "another version of its interface"),
    (http("200 OK", OURS, "[]"), "is no pagesoak daemon: its answer is no object"),
    (http("200 OK", OURS, "{"), "is no pagesoak daemon"),
    (b"220 mail.example ready\r\n", "does not speak HTTP"),
    (b"", "does not speak HTTP"),
]


@pytest.mark.parametrize(("answer", "said"), FOREIGN)
def test_what_is_no_daemon_of_this_version_is_told_in_one_line(
    tmp_path: Path, answer: bytes, said: str
) -> None:
    with answering(tmp_path, answer) as path, pytest.raises(NoDaemonError, match=said) as refused:
        Client(str(path)).get("/v1/runs")
    assert "\n" not in str(refused.value)


def test_a_document_of_the_same_version_is_taken(tmp_path: Path) -> None:
    with answering(tmp_path, http("200 OK", OURS, '{"runs": []}')) as path:
        assert Client(str(path)).get("/v1/runs") == {"runs": []}


def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    answer = http("409 Conflict", OURS, '{"detail": "it has ended"}')
    with answering(tmp_path, answer) as path, pytest.raises(RefusedError, match="it has ended"):
        Client(str(path)).get("/v1/runs/a")


def test_a_verb_before_something_else_ends_with_69(tmp_path: Path) -> None:
    with answering(tmp_path, http("200 OK", "", "{}")) as path:
        finished = pagesoak("list", "--socket", path)
    assert finished.code == 69
    assert finished.err.count("\n") == 1
    assert "--socket" in finished.err
