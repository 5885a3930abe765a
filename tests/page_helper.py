"""A daemon with its page for browsers, and how to ask its port."""

import re
from pathlib import Path

from tests.daemon_helper import Daemon

PAGE = '[page]\nlisten = "127.0.0.1:0"\n'
WITH_CHANGES = f"{PAGE}changes = true\n"


class PageDaemon(Daemon):
    """One whose page is on a free port."""

    def __init__(self, folder: Path, more: str = WITH_CHANGES) -> None:
        super().__init__(folder, more)

    @property
    def address(self) -> str:
        """Of the page, with a slash at its end."""
        found: str = self.client.get("/v1/page")["address"]
        return found

    @property
    def token(self) -> str | None:
        """What the page needs to change something."""
        found: str | None = self.client.get("/v1/page/token")["token"]
        return found

    @property
    def page_port(self) -> int:
        """The port of the page."""
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", self.address)
        assert match
        return int(match[1])

    def page_get(self, target: str, *headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of a GET on the page's port."""
        return self.page_ask("GET", target, *headers)

    def page_ask(
        self, method: str, target: str, *headers: str, body: str = ""
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body; headers given as whole lines, `Host` among them if at all."""
        named = {line.partition(":")[0].lower() for line in headers}
        lines = [*headers, *([] if "host" in named else [f"Host: 127.0.0.1:{self.page_port}"])]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        text = "\r\n".join([f"{method} {target} HTTP/1.0", *lines, "", body])
        head, _, answer = self.ask(text.encode(), self.page_port).decode().partition("\r\n\r\n")
        status, *fields = head.split("\r\n")
        pairs = (field.partition(": ") for field in fields)
        return int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, answer
