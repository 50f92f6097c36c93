"""Error responses of the gateway itself: API Gateway's messages where AWS has them, or problems.

docs/reference/local-gateway.md lists them.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

AWS_MESSAGES: Mapping[int, str] = {
    401: "Unauthorized",
    403: "Forbidden",
    413: "Request Entity Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""Messages of API Gateway's HTTP API, by status."""

PROBLEMS: Mapping[int, tuple[str, str]] = {
    400: ("request_malformed", "The request is not valid HTTP/1.1."),
    404: ("route_not_found", "No route matches this path."),
    405: (
        "method_not_allowed",
        "This path does not support this method. The Allow header lists supported methods.",
    ),
    408: ("request_timeout", "The body of the request did not arrive in time."),
    414: ("uri_too_long", "The request target is too long."),
    417: ("expectation_unsupported", "The only supported expectation is 100-continue."),
    431: ("headers_too_large", "The request line and the headers together are too large."),
    500: ("internal_error", "The gateway failed. It is safe to repeat the request."),
    501: (
        "transfer_encoding_unsupported",
        "The only supported transfer coding is chunked.",
    ),
    505: ("http_version_unsupported", "The gateway supports HTTP/1.0 and HTTP/1.1."),
}
"""Code and detail by status, for requests that the gateway rejects."""


def aws_error(status: int, challenge: str = "") -> web.Response:
    """An error of API Gateway. `challenge` is the value of www-authenticate."""
    return web.Response(
        status=status,
        text=json.dumps({"message": AWS_MESSAGES[status]}, separators=(",", ":")),
        content_type="application/json",
        headers={"www-authenticate": challenge} if challenge else {},
    )


def problem(
    status: int,
    path: str,
    *,
    code: str = "",
    detail: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A problem document in the format of the API's own."""
    phrase = HTTPStatus(status).phrase
    default_code, default_detail = PROBLEMS.get(status, (phrase.lower().replace(" ", "_"), phrase))
    request_id = str(uuid4())
    document = {
        "type": f"urn:openreserve:problem:{code or default_code}",
        "title": phrase,
        "status": status,
        "detail": detail or default_detail,
        "instance": path.encode(errors="replace").decode(),
        "code": code or default_code,
        "requestId": request_id,
    }
    return web.Response(
        status=status,
        text=json.dumps(document, separators=(",", ":")),
        content_type="application/problem+json",
        headers={"x-request-id": request_id, **(headers or {})},
    )
