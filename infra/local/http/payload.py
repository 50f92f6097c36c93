"""API Gateway's payload format 2.0: converts requests to events, and results to responses.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import hdrs, web

from infra.local.template.model import DEFAULT_ROUTE

_CONNECTION_HEADERS = {"connection", "content-length", "keep-alive", "transfer-encoding"}
"""Headers that the gateway sets itself. Those of a function are ignored, except that a response to
HEAD has the content-length of its GET, which only the function knows."""


class InvalidResponse(Exception):
    """The result of a function is not a valid HTTP response. API Gateway answers 500."""


def event(request: web.Request, route: str, request_id: str, body: bytes) -> dict[str, Any]:
    """The event for a request. Path and path parameters are decoded once, as on AWS."""
    now = datetime.now(UTC)
    headers = _joined((name.lower(), value) for name, value in request.headers.items())
    cookies = headers.pop("cookie", "")
    payload: dict[str, Any] = {
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
        payload["cookies"] = [cookie.strip() for cookie in cookies.split(";")]
    if body:
        is_encoded = headers.get("content-encoding", "identity").lower() != "identity"
        payload["body"], payload["isBase64Encoded"] = _text(body, is_encoded=is_encoded)
    if request.query:
        payload["queryStringParameters"] = _joined(request.query.items())
    if request.match_info and route != DEFAULT_ROUTE:
        payload["pathParameters"] = dict(request.match_info)
    return payload


def serialized(event: Mapping[str, Any]) -> bytes:
    """The event as the JSON that Lambda receives.

    Header bytes that are not UTF-8 become question marks: JSON has no lone surrogates.
    """
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def response(result: bytes, method: str) -> web.Response:
    """The HTTP response for the result of a function, to a request with the method.

    Raises:
        InvalidResponse: the result has `statusCode`, and other members are invalid.
    """
    try:
        parts = json.loads(result)
        if isinstance(parts, dict) and "statusCode" in parts:
            return _from_parts(parts, is_head=method == hdrs.METH_HEAD)
    except (ValueError, TypeError, AttributeError) as reason:
        raise InvalidResponse from reason
    return web.Response(body=result, content_type="application/json")


def _from_parts(parts: Mapping[str, Any], *, is_head: bool) -> web.Response:
    body = parts.get("body") or ""
    content = base64.b64decode(body) if parts.get("isBase64Encoded") else body.encode()
    response = web.Response(status=int(parts["statusCode"]), body=content)
    for name, value in (parts.get("headers") or {}).items():
        is_length_of_get = is_head and name.lower() == "content-length"
        if name.lower() not in _CONNECTION_HEADERS or is_length_of_get:
            response.headers[name] = _header_value(str(value))
    for cookie in parts.get("cookies") or ():
        response.headers.add(hdrs.SET_COOKIE, _header_value(cookie))
    return response


def _header_value(text: str) -> str:
    """The text. ValueError: it would inject another header."""
    if any(character in text for character in "\r\n\0"):
        raise ValueError("a header value must not contain line breaks or NUL")
    return text


def _text(body: bytes, *, is_encoded: bool) -> tuple[str, bool]:
    """The body as text and False; or in base64 and True, if it is not UTF-8."""
    if not is_encoded:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Joins repeated names with commas: payload format 2.0 has no multi-value fields."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
