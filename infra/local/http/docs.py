"""Serves /openapi.json, and Swagger UI for it at /docs.

The files of Swagger UI are served locally, so that the page works offline.
"""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

OPENAPI = Path(__file__).parents[2] / "openapi.json"

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
    """Add the pages to the gateway, ahead of the functions' `$default` route."""
    app.router.add_get("/openapi.json", _openapi)
    app.router.add_get("/docs", _docs)
    folder = _swagger_ui()
    for path in sorted(folder.rglob("*.*")):
        app.router.add_get(f"/docs/swagger/{path.relative_to(folder)}", _file(path))


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    async def respond(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return respond


async def _openapi(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(OPENAPI, headers={"content-type": "application/json"})


async def _docs(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html")


def _swagger_ui() -> Path:
    """The folder of the files. Located without an import, which would load Flask."""
    spec = importlib.util.find_spec("flask_openapi3_swagger")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "templates" / "swagger"
