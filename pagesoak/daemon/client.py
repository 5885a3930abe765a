"""How the command line talks to the daemon: HTTP over its Unix socket, with nothing but a socket.

A library would take longer to import than the daemon to answer. A request is sent as HTTP/1.0, so
that the answer ends with the connection and nothing is chunked.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import IO, Any

from pagesoak.base.errors import EXIT_NO_DAEMON, EXIT_USAGE, PagesoakError
from pagesoak.daemon.places import default_socket

API_VERSION = 1
"""The version of the interface that this client speaks (`daemon.gate`)."""
VERSION_HEADER = b"pagesoak-api"
ANSWER_SECONDS_MAX = 10.0
"""A daemon that has not answered by then does not."""
AGAIN_SECONDS = 0.01
"""Between two attempts to get into the queue of a daemon that many want at once."""
ANSWER_BYTES_MAX = 64 << 20
"""Of an answer that is no stream: some hundred thousand runs."""
WHERE = "say where it is with PAGESOAK_SOCKET or --socket"
HEADER_LINES_MAX = 100


class NoDaemonError(PagesoakError):
    """No daemon answers; says what to do about it."""

    exit_code = EXIT_NO_DAEMON


class RefusedError(PagesoakError):
    """The daemon says that something asked of it is wrong; `status` is that of HTTP."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A client of the daemon at `path`, by default the one that this user's daemon has."""

    def __init__(
        self, path: str | None = None, *, answer_seconds: float = ANSWER_SECONDS_MAX
    ) -> None:
        self.path = path or str(default_socket(os.environ))
        self._answer_seconds = answer_seconds

    def get(self, target: str) -> dict[str, Any]:
        """The document that a GET gives; NoDaemonError, RefusedError."""
        return self._document("GET", target, None)

    def post(self, target: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """The document that a POST gives; NoDaemonError, RefusedError."""
        return self._document("POST", target, document or {})

    def stream(self, target: str) -> Iterator[dict[str, str]]:
        """The server-sent events of a stream, each with its fields, to its end.

        Raises NoDaemonError when the daemon goes away meanwhile.
        """
        with self._connected() as connection:
            answer = self._sent(connection, "GET", target, None)
            connection.settimeout(None)
            with answer:
                try:
                    yield from _events(answer)
                except (EOFError, OSError):
                    said = f"the daemon at {self.path} went away before the stream's end"
                    raise NoDaemonError(said) from None

    def _document(
        self, method: str, target: str, document: dict[str, Any] | None
    ) -> dict[str, Any]:
        with self._connected() as connection:
            try:
                with self._sent(connection, method, target, document) as answer:
                    found = json.loads(answer.read(ANSWER_BYTES_MAX))
            except TimeoutError:
                raise self._silent() from None
            except (OSError, ValueError) as error:
                raise self._foreign(error) from error
        if not isinstance(found, dict):
            raise self._foreign("its answer is no object")
        return found

    def _silent(self) -> NoDaemonError:
        """It takes a connection and then says nothing."""
        said = f"the daemon at {self.path} does not answer within {self._answer_seconds:.0f} s"
        return NoDaemonError(f"{said}: it is stopped, or overloaded; see its log")

    def _foreign(self, reason: object) -> NoDaemonError:
        """Something else answers there."""
        return NoDaemonError(f"what is at {self.path} is no pagesoak daemon: {reason}; {WHERE}")

    def _check_version(self, spoken: str | None, status: int) -> None:
        """NoDaemonError unless an answer is of the interface that this client speaks."""
        if spoken is None and status < HTTP_ERRORS_FROM:
            raise self._foreign("its answer names no version of the interface")
        if spoken not in (None, str(API_VERSION)):
            raise NoDaemonError(
                f"the daemon at {self.path} speaks another version of its interface than this"
                f" client's {API_VERSION}: use client and daemon of one version"
            )

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._answer_seconds)
        try:
            self._connect(connection)
        except OSError as error:
            connection.close()
            raise NoDaemonError(
                f"no daemon answers at {self.path} ({error.strerror or error}); start one with "
                f"`pagesoak serve`, or {WHERE}"
            ) from error
        return connection

    def _connect(self, connection: socket.socket) -> None:
        """Connect, also when so many others wait that the kernel says to come again."""
        deadline = time.monotonic() + self._answer_seconds
        while True:
            try:
                connection.connect(self.path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_SECONDS)
            else:
                return

    def _sent(
        self,
        connection: socket.socket,
        method: str,
        target: str,
        document: dict[str, Any] | None,
    ) -> IO[bytes]:
        """The body of the answer to a request; RefusedError when it is a problem document."""
        body = b"" if document is None else json.dumps(document).encode()
        head = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\nPagesoak-Api: {API_VERSION}\r\n"
        if document is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        try:
            connection.sendall(head.encode() + b"\r\n" + body)
            answer = connection.makefile("rb")
            status, spoken = _head(answer)
        except TimeoutError:
            raise self._silent() from None
        except (OSError, ValueError) as error:
            raise self._foreign(error) from error
        self._check_version(spoken, status)
        if status >= HTTP_ERRORS_FROM:
            with answer:
                raise RefusedError(_problem_text(answer.read(ANSWER_BYTES_MAX)), status)
        return answer


HTTP_ERRORS_FROM = 400


def _head(answer: IO[bytes]) -> tuple[int, str | None]:
    """The status of an answer, and the version of the interface that its headers name; ValueError
    when it is none of HTTP.
    """
    words = answer.readline(1 << 16).split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):  # noqa: PLR2004 - version, status
        raise ValueError("it does not speak HTTP")
    spoken = None
    for _ in range(HEADER_LINES_MAX):
        name, _, value = answer.readline(1 << 16).strip().partition(b":")
        if not name:
            break
        if name.lower() == VERSION_HEADER:
            spoken = value.strip().decode("latin-1")
    return int(words[1]), spoken


def _problem_text(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "the daemon refused, and did not say why"


def _events(answer: IO[bytes]) -> Iterator[dict[str, str]]:
    """Events up to one named `end`; what ends without it was cut off, and raises."""
    fields: dict[str, str] = {}
    for raw in answer:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            continue
        if fields.get("event") == "end":
            return
        if fields:
            yield fields
        fields = {}
    raise EOFError


__all__ = ["Client", "NoDaemonError", "RefusedError"]
