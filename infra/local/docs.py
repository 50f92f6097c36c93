"""The API's own pages: /openapi.json and, made from it, /docs.

Swagger UI's files are served from here, so that the page works without the Internet.
"""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

OPENAPI = Path(__file__).parents[1] / "openapi.json"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>OpenReserve API</title>
<link rel="stylesheet" href="/docs/swagger/css/swagger-ui.css">
<div id="api"></div>
<script src="/docs/swagger/js/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true})</script>
</html>
"""


def add_pages(app: web.Application) -> None:
    """Add the pages to the gateway. They come before the functions' `$default` route."""
    app.router.add_get("/openapi.json", _openapi)
    app.router.add_get("/docs", _docs)
    folder = _swagger_ui()
    for path in sorted(folder.rglob("*.*")):
        app.router.add_get(f"/docs/swagger/{path.relative_to(folder)}", _file(path))


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    async def answer(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return answer


async def _openapi(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(OPENAPI, headers={"content-type": "application/json"})


async def _docs(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html")


def _swagger_ui() -> Path:
    """Found, not imported: the package would load Flask."""
    carrier = importlib.util.find_spec("flask_openapi3_swagger")
    assert carrier is not None
    assert carrier.origin is not None
    return Path(carrier.origin).parent / "templates" / "swagger"
