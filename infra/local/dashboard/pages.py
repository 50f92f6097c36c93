"""/dashboard, a page that shows the runtime at work, and the Black Friday that it starts.

All of it is served from here, so that it works without the Internet; what it shows it reads from
/metrics and from the API itself.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from infra.local.black_friday import BlackFriday, NotInstalled, Running
from infra.local.refusals import problem

_FOLDER = Path(__file__).parent
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",  # after an update no file of before is shown with a new one
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_pages(app: web.Application, black_friday: BlackFriday) -> None:
    """Add the page, its files and its Black Friday, which ends with the application."""
    app.router.add_get("/dashboard", _file(_FOLDER / "index.html"))
    app.router.add_get("/dashboard/black-friday", _tell(black_friday))
    app.router.add_post("/dashboard/black-friday", _start(black_friday))
    for path in sorted(_FOLDER.rglob("*.*")):
        app.router.add_get(f"/dashboard/{path.relative_to(_FOLDER)}", _file(path))

    async def stop(_app: web.Application) -> None:
        await black_friday.stop()

    app.on_shutdown.append(stop)


def _file(path: Path) -> Handler:
    async def answer(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=_HEADERS)

    return answer


def _tell(black_friday: BlackFriday) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(black_friday.told(), headers={"cache-control": "no-store"})

    return answer


def _start(black_friday: BlackFriday) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        if _is_foreign(request):
            return problem(
                HTTPStatus.FORBIDDEN,
                request.path,
                code="origin_not_allowed",
                detail="Only the dashboard itself may start a Black Friday, not another page.",
            )
        try:
            await black_friday.start()
        except Running:
            return problem(
                HTTPStatus.CONFLICT,
                request.path,
                code="black_friday_running",
                detail="One Black Friday runs at a time.",
            )
        except NotInstalled as missing:
            return problem(
                HTTPStatus.NOT_IMPLEMENTED,
                request.path,
                code="load_test_not_installed",
                detail=f"The load test needs {missing}, which is not installed: run"
                " `make blackfriday` once, which installs it.",
            )
        return web.json_response(black_friday.told(), status=HTTPStatus.ACCEPTED)

    return answer


def _is_foreign(request: web.Request) -> bool:
    """Whether a page of another site asks: browsers name the page's origin with every POST."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != request.headers.get(hdrs.HOST)
    except ValueError:
        return True
