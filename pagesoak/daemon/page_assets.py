"""The page's own files, from a fixed table: no name from a client ever becomes a path.

Its policy allows what this daemon serves and nothing else, no inline script or style among it, and
no page may put it into a frame.
"""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
ASSETS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/page/show.js": ("show.js", "text/javascript; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
    "/page/uplot.js": ("uplot.js", "text/javascript; charset=utf-8"),
    "/page/uplot.css": ("uplot.css", "text/css; charset=utf-8"),
    "/page/uplot-LICENSE.txt": ("uplot-LICENSE.txt", "text/plain; charset=utf-8"),
}
"""By path: the file below `pagesoak/daemon/page`, and what it is."""


def asset_routes() -> list[Route]:
    """A route for each file; they are read once."""
    return [_route(path, name, kind) for path, (name, kind) in ASSETS.items()]


def _route(path: str, name: str, kind: str) -> Route:
    content = (files("pagesoak.daemon") / "page" / name).read_bytes()

    async def answer(_request: Request) -> Response:
        headers = {"content-security-policy": POLICY, "content-type": kind}
        return Response(content, headers=headers)

    return Route(path, answer)
