"""Requests of other HTTP clients through the local gateway and the Lambda environments."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from unicodedata import normalize
from urllib.parse import quote, urlsplit

import pytest

from tests.e2e.runtime import Runtime, started


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("http")) as runtime:
        yield runtime


def reserve_with(runtime: Runtime, resource_id: str, *keys: str) -> tuple[int, dict[str, str]]:
    """Reserve with one Idempotency-Key header line per key."""
    content = json.dumps({"resourceId": resource_id, "quantity": 1}).encode()
    connection = http.client.HTTPConnection(urlsplit(runtime.url).netloc, timeout=60)
    connection.putrequest("POST", "/api/v1/reserve")
    for name, value in [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
        *(("Idempotency-Key", key) for key in keys),
    ]:
        connection.putheader(name, value)
    connection.endheaders(content)
    answer = connection.getresponse()
    with closing(connection):
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_two_idempotency_key_headers_are_refused_and_a_retry_with_one_creates_one_hold(
    runtime: Runtime, name: str, form: str
) -> None:
    runtime.set_stock(name, 5)
    key = form.format(name)

    status, problem = reserve_with(runtime, name, key, key)
    retried = [reserve_with(runtime, name, key) for _ in range(2)]

    assert (status, problem["code"]) == (400, "idempotency_key_invalid")
    assert retried[0] == retried[1]
    assert runtime.stock(name)["availableStock"] == 4


def test_the_location_header_is_the_url_of_the_resource(runtime: Runtime, name: str) -> None:
    for resource_id in (f"{name}?b#c", f"{name} 100%", f"{name}%2F", f"{name}+&=é"):
        created = runtime.set_stock(resource_id, 3)
        read = runtime.call("GET", created.headers["location"])

        assert (created.status, read.status) == (201, 200), resource_id
        assert read.json["resourceId"] == resource_id
        missing = runtime.call("GET", created.headers["location"] + "x").json
        assert missing["instance"] == created.headers["location"] + "x"


def test_resource_ids_are_equal_in_every_unicode_normalization_form(
    runtime: Runtime, name: str
) -> None:
    nfc = f"{name}-é\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645👩\u200d👧"
    runtime.set_stock(normalize("NFD", nfc), 3)

    for form in ("NFC", "NFD"):
        path = f"/api/v1/resources/{quote(normalize(form, nfc), safe='')}"
        assert runtime.call("GET", path).json["resourceId"] == nfc


@pytest.mark.parametrize(
    "path", ["/health", "/api/v1/health", "/api/v1/resources", "/api/v1/events", "/api/v1/webhooks"]
)
def test_head_returns_the_headers_of_get_without_a_body(runtime: Runtime, path: str) -> None:
    head, get = runtime.call("HEAD", path), runtime.call("GET", path)

    assert (head.status, head.text) == (get.status, "") == (200, "")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == str(len(get.text.encode()))


def test_head_of_a_resource_returns_its_etag_and_evaluates_conditions(
    runtime: Runtime, name: str
) -> None:
    tag = runtime.set_stock(name, 3).headers["etag"]
    path = f"/api/v1/resources/{name}"

    assert runtime.call("HEAD", path).headers["etag"] == tag
    assert runtime.call("HEAD", path, headers={"If-None-Match": f"W/{tag}"}).status == 304
    assert runtime.call("HEAD", path + "-2").status == 404


def test_options_returns_the_methods_of_a_path(runtime: Runtime) -> None:
    origin = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    reply = runtime.call("OPTIONS", "/api/v1/resources", headers=origin)

    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD, POST"
    assert not [header for header in reply.headers if header.startswith("access-control")]
