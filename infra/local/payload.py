"""Payload format 2.0 of API Gateway: an HTTP request as an event, an answer as an HTTP response.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import hdrs, web

from infra.local.template.model import DEFAULT_ROUTE

_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding"}
"""Headers that the gateway sets itself, whatever a function answers."""


class NotAResponse(Exception):
    """What a function answered is no HTTP response; API Gateway calls that an internal error."""


def event(request: web.Request, route: str, request_id: str, body: bytes) -> dict[str, Any]:
    """The event of a request. Path and path parameters are decoded once, as on AWS."""
    now = datetime.now(UTC)
    headers = _joined((name.lower(), value) for name, value in request.headers.items())
    cookies = headers.pop("cookie", "")
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": request.path,
        "rawQueryString": request.rel_url.raw_query_string,
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": headers.get("host", "localhost"),
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": f"HTTP/{request.version.major}.{request.version.minor}",
                "sourceIp": request.remote or "",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": route,
            "stage": DEFAULT_ROUTE,
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1_000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        made["cookies"] = [cookie.strip() for cookie in cookies.split(";")]
    if body:
        is_encoded = headers.get("content-encoding", "identity").lower() != "identity"
        made["body"], made["isBase64Encoded"] = _text(body, is_encoded=is_encoded)
    if request.query:
        made["queryStringParameters"] = _joined(request.query.items())
    if request.match_info and route != DEFAULT_ROUTE:
        made["pathParameters"] = dict(request.match_info)
    return made


def serialized(event: Mapping[str, Any]) -> bytes:
    """The event as Lambda hands it over.

    Header bytes that are not UTF-8 become question marks: a lone surrogate is no valid text.
    """
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def response(answer: bytes) -> web.Response:
    """The response that a function's answer describes.

    Raises:
        NotAResponse: it describes none.
    """
    try:
        parts = json.loads(answer)
        if isinstance(parts, dict) and "statusCode" in parts:
            return _described(parts)
    except (ValueError, TypeError, AttributeError) as reason:
        raise NotAResponse from reason
    return web.Response(body=answer, content_type="application/json")


def _described(parts: Mapping[str, Any]) -> web.Response:
    body = parts.get("body") or ""
    content = base64.b64decode(body) if parts.get("isBase64Encoded") else body.encode()
    made = web.Response(status=int(parts["statusCode"]), body=content)
    for name, value in (parts.get("headers") or {}).items():
        if name.lower() not in _OF_THE_CONNECTION:
            made.headers[name] = _fit(str(value))
    for cookie in parts.get("cookies") or ():
        made.headers.add(hdrs.SET_COOKIE, _fit(cookie))
    return made


def _fit(text: str) -> str:
    """The text, if it can be part of a header."""
    if any(character in text for character in "\r\n\0"):
        raise ValueError("a header must be one line")
    return text


def _text(body: bytes, *, is_encoded: bool) -> tuple[str, bool]:
    """The body as text; or in base64, and true, if it is none."""
    if not is_encoded:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Payload 2.0 has no lists: values of one name are joined with commas."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
