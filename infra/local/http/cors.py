"""CORS as in API Gateway's HTTP API: answers preflight requests, and adds response headers.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import hdrs, web

EXTENSION = "x-amazon-apigateway-cors"
_HEADER_PREFIX = "access-control-"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Cors:
    """The CORS configuration of the API."""

    origins: tuple[str, ...]
    """Patterns in which `*` matches any text, as in `https://*`."""
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age_seconds: int

    def preflight_headers(self, origin: str) -> dict[str, str]:
        """The headers that allow a request. Empty for an origin that is not allowed."""
        if not self._allows(origin):
            return {}
        return {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: self._allowed_origin(origin),
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: ",".join(self.methods),
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ",".join(self.headers),
            hdrs.ACCESS_CONTROL_MAX_AGE: str(self.max_age_seconds),
        }

    def response_headers(self, origin: str) -> dict[str, str]:
        """The headers that allow reading a response. Empty for an origin that is not allowed."""
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


def configured(extension: Mapping[str, Any] | None) -> Cors | None:
    """The configuration in the template. None: cross-origin requests are not allowed."""
    if extension is None:
        return None
    return Cors(
        origins=tuple(extension["allowOrigins"]),
        methods=tuple(extension["allowMethods"]),
        headers=tuple(extension["allowHeaders"]),
        exposed=tuple(extension["exposeHeaders"]),
        max_age_seconds=extension["maxAge"],
    )


def add_cors(app: web.Application, cors: Cors | None) -> None:
    """Add the CORS middleware, if the template configures CORS."""
    if cors is not None:
        app.middlewares.append(_middleware(cors))


def _middleware(cors: Cors) -> Any:
    @web.middleware
    async def add_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return await handler(request)
        if _is_preflight(request):
            return web.Response(status=204, headers=cors.preflight_headers(origin))
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(cors.response_headers(origin))
            raise
        for name in [name for name in response.headers if name.lower().startswith(_HEADER_PREFIX)]:
            del response.headers[name]  # API Gateway drops CORS headers of the function
        response.headers.update(cors.response_headers(origin))
        return response

    return add_headers


def _is_preflight(request: web.Request) -> bool:
    has_method = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    return request.method == hdrs.METH_OPTIONS and has_method
