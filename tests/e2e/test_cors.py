"""CORS of the local gateway: preflight requests, and responses with CORS headers."""

from collections.abc import Iterator

import pytest

from tests.e2e.runtime import Runtime, started
from tests.support.handlers import Reply
from tests.support.issuer import AUDIENCES, ISSUER, Issuer

SHOP, OTHER = "https://shop.example", "https://other.example"
OURS = Issuer()
BEARER = {"Authorization": f"Bearer {OURS.token('openreserve/operate openreserve/reserve')}"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


@pytest.fixture(scope="module")
def for_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with the JWT authorizer and two allowed origins."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "jwks.json").write_text(OURS.jwks)
    parameters = (
        "Authorizer=JWT",
        f"JwtIssuer={ISSUER}",
        f"JwtAudience={AUDIENCES}",
        f"CorsAllowOrigins={SHOP},http://localhost:5173",
    )
    options = [word for parameter in parameters for word in ("--parameter", parameter)]
    with started(folder / "state", *options, "--jwks", str(folder / "jwks.json")) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("plain")) as runtime:
        yield runtime


def of_cors(reply: Reply) -> dict[str, str]:
    return {name: text for name, text in reply.headers.items() if name.startswith("access-control")}


@pytest.mark.parametrize("path", ["/api/v1/reserve", "/api/v1/resources/a", "/api/v1/nothing"])
def test_a_preflight_request_needs_no_token(for_pages: Runtime, path: str) -> None:
    reply = for_pages.call("OPTIONS", path, headers={"Origin": SHOP, **PREFLIGHT})

    assert (reply.status, reply.text) == (204, "")
    assert of_cors(reply) == {
        "access-control-allow-origin": SHOP,
        "access-control-allow-methods": "GET,HEAD,POST,DELETE",
        "access-control-allow-headers": (
            "authorization,content-type,idempotency-key,if-match,if-none-match"
        ),
        "access-control-max-age": "600",
    }


def test_each_allowed_origin_is_returned_by_name(for_pages: Runtime) -> None:
    headers = {"Origin": "http://localhost:5173", **PREFLIGHT}

    reply = for_pages.call("OPTIONS", "/api/v1/reserve", headers=headers)

    assert of_cors(reply)["access-control-allow-origin"] == "http://localhost:5173"


@pytest.mark.parametrize("origin", [OTHER, "null", f"{SHOP}.evil.example", "https://SHOP.example"])
def test_other_origins_get_no_cors_headers(for_pages: Runtime, origin: str) -> None:
    preflight = for_pages.call(
        "OPTIONS", "/api/v1/reserve", headers={"Origin": origin, **PREFLIGHT}
    )
    read = for_pages.call("GET", "/api/v1/resources", headers={"Origin": origin, **BEARER})

    assert (preflight.status, of_cors(preflight)) == (204, {})
    assert (read.status, of_cors(read)) == (200, {})


def test_an_allowed_origin_can_read_responses_and_their_headers(for_pages: Runtime) -> None:
    body = {"resourceId": "of-a-page", "totalStock": 1}
    headers = {"Origin": SHOP, **BEARER}

    reply = for_pages.call("POST", "/api/v1/resources", body, headers)

    assert reply.status == 201
    assert of_cors(reply) == {
        "access-control-allow-origin": SHOP,
        "access-control-expose-headers": (
            "allow,etag,idempotent-replayed,location,retry-after,x-request-id"
        ),
    }


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/v1/resources", {}, 401),
        ("GET", "/api/v1/resources/nothing", BEARER, 404),
        ("POST", "/api/v1/reserve", BEARER, 400),
    ],
)
def test_an_allowed_origin_can_read_error_responses(
    for_pages: Runtime, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = for_pages.call(method, path, headers={"Origin": SHOP, **headers})

    assert reply.status == status
    assert of_cors(reply)["access-control-allow-origin"] == SHOP


def test_requests_without_an_origin_get_no_cors_headers(for_pages: Runtime) -> None:
    reply = for_pages.call("GET", "/api/v1/resources", headers=BEARER)

    assert (reply.status, of_cors(reply)) == (200, {})


def test_by_default_no_origin_is_allowed(plain: Runtime) -> None:
    headers = {"Origin": SHOP, **PREFLIGHT}

    preflight = plain.call("OPTIONS", "/api/v1/reserve", headers=headers)
    read = plain.call("GET", "/api/v1/resources", headers={"Origin": SHOP})

    assert (preflight.status, preflight.headers["allow"]) == (405, "POST")
    assert preflight.json["code"] == "method_not_allowed"
    assert (read.status, of_cors(preflight), of_cors(read)) == (200, {}, {})
