"""`pagesoak page`: where the daemon's page for browsers is, and the token to change something."""

from http import HTTPStatus
from urllib.parse import quote

from pagesoak.base.errors import InputError
from pagesoak.cli.ask import AsJson, Socket, client
from pagesoak.cli.output import print_json, write_out
from pagesoak.daemon.client import Client, RefusedError


def page(as_json: AsJson = False, socket: Socket = None) -> None:
    """Print the address of the daemon's page; with the token, if the page may change something.

    Whoever has the token can start, change and stop soaks until the daemon ends. Only root and the
    daemon's own user get it; others look on.
    """
    daemon = client(socket)
    facts = daemon.get("/v1/page")
    if facts["address"] is None:
        said = 'this daemon has no page: set it, as in listen = "127.0.0.1:9465"'
        raise InputError(said, key="page.listen")
    token = _token(daemon) if facts["changes"] else None
    address = facts["address"]
    if token is not None:
        address += f"#token={quote(token, safe='')}"
    if as_json:
        print_json({"address": address, "changes": token is not None})
    else:
        write_out(f"{address}\n")


def _token(daemon: Client) -> str | None:
    try:
        token: str | None = daemon.get("/v1/page/token")["token"]
    except RefusedError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return None
    return token
