"""CORS as API Gateway's HTTP API does it: answers preflights, and adds headers for browsers.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import hdrs, web

IN_TEMPLATE = "x-amazon-apigateway-cors"
_OF_CORS = "access-control-"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages may call the API, and how."""

    origins: tuple[str, ...]
    """With `*` for anything, as in `https://*`."""
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age_seconds: int

    def of_preflight(self, origin: str) -> dict[str, str]:
        """The headers that allow a request; none for a page that may not call."""
        if not self._allows(origin):
            return {}
        return {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: self._allowed_origin(origin),
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: ",".join(self.methods),
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ",".join(self.headers),
            hdrs.ACCESS_CONTROL_MAX_AGE: str(self.max_age_seconds),
        }

    def of_answer(self, origin: str) -> dict[str, str]:
        """The headers that let a page read an answer; none for a page that may not."""
        if not self._allows(origin):
            return {}
        return {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: self._allowed_origin(origin),
            hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: ",".join(self.exposed),
        }

    def _allows(self, origin: str) -> bool:
        return any(fnmatchcase(origin, pattern) for pattern in self.origins)

    def _allowed_origin(self, origin: str) -> str:
        return "*" if "*" in self.origins else origin


def configured(found: Mapping[str, Any] | None) -> Cors | None:
    """What stands in the template; None: no page may call."""
    if found is None:
        return None
    return Cors(
        origins=tuple(found["allowOrigins"]),
        methods=tuple(found["allowMethods"]),
        headers=tuple(found["allowHeaders"]),
        exposed=tuple(found["exposeHeaders"]),
        max_age_seconds=found["maxAge"],
    )


def add_cors(app: web.Application, cors: Cors | None) -> None:
    """Have the application answer browsers, if the template says so."""
    if cors is not None:
        app.middlewares.append(_middleware(cors))


def _middleware(cors: Cors) -> Any:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return await handler(request)
        if _is_preflight(request):
            return web.Response(status=204, headers=cors.of_preflight(origin))
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(cors.of_answer(origin))
            raise
        for name in [name for name in response.headers if name.lower().startswith(_OF_CORS)]:
            del response.headers[name]  # API Gateway ignores those of the function
        response.headers.update(cors.of_answer(origin))
        return response

    return answer


def _is_preflight(request: web.Request) -> bool:
    asked = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    return request.method == hdrs.METH_OPTIONS and asked
