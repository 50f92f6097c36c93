"""Serves /dashboard: live metrics, stock and events, and a button that starts the load test.

All files are served locally, so that the page works offline. It reads /metrics and the API.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from infra.local.dashboard.black_friday import AlreadyRunning, BlackFriday, NotInstalled
from infra.local.http.error_responses import problem

_FOLDER = Path(__file__).parent
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",  # so that an update never mixes old and new files
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_pages(app: web.Application, black_friday: BlackFriday) -> None:
    """Add the page, its files and its load test, which is stopped with the application."""
    app.router.add_get("/dashboard", _file(_FOLDER / "index.html"))
    app.router.add_get("/dashboard/black-friday", _status(black_friday))
    app.router.add_post("/dashboard/black-friday", _start(black_friday))
    for path in sorted(_FOLDER.rglob("*.*")):
        if path.suffix not in (".py", ".pyc"):
            app.router.add_get(f"/dashboard/{path.relative_to(_FOLDER)}", _file(path))

    async def stop(_app: web.Application) -> None:
        await black_friday.stop()

    app.on_shutdown.append(stop)


def _file(path: Path) -> Handler:
    async def respond(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=_HEADERS)

    return respond


def _status(black_friday: BlackFriday) -> Handler:
    async def respond(_request: web.Request) -> web.Response:
        return web.json_response(black_friday.status(), headers={"cache-control": "no-store"})

    return respond


def _start(black_friday: BlackFriday) -> Handler:
    async def respond(request: web.Request) -> web.Response:
        if _is_cross_origin(request):
            return problem(
                HTTPStatus.FORBIDDEN,
                request.path,
                code="origin_not_allowed",
                detail="Only the dashboard may start a Black Friday, not a page of another origin.",
            )
        try:
            await black_friday.start()
        except AlreadyRunning:
            return problem(
                HTTPStatus.CONFLICT,
                request.path,
                code="black_friday_running",
                detail="A Black Friday is already running.",
            )
        except NotInstalled as missing:
            return problem(
                HTTPStatus.NOT_IMPLEMENTED,
                request.path,
                code="load_test_not_installed",
                detail=f"The load test needs {missing}, which is not installed. To install it,"
                " run `make blackfriday` once.",
            )
        return web.json_response(black_friday.status(), status=HTTPStatus.ACCEPTED)

    return respond


def _is_cross_origin(request: web.Request) -> bool:
    """Whether a page of another origin sent the request: browsers send Origin with every POST."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != request.headers.get(hdrs.HOST)
    except ValueError:
        return True
