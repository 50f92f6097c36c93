"""HTTP details of other clients: encodings, conditions, HEAD, and ids of every script."""

import gzip
import json
from base64 import b64encode
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

import pytest

from openreserve.domain import errors
from openreserve.domain.resources import Resource
from openreserve.http.routes import ROUTES
from openreserve.postgres import resources
from tests.conftest import Engine
from tests.support.handlers import (
    HANDLERS,
    Reply,
    available,
    call,
    commit,
    hold,
    invoke,
    list_events,
    list_reservations,
    list_resources,
    read_reservation,
    read_resource,
    reserve,
    sample,
    set_stock,
    set_stock_of_many,
)

pytestmark = pytest.mark.usefixtures("engine")

WITH_A_BODY = [name for name in HANDLERS if sample(name).get("body")]
READS = [
    name
    for name in HANDLERS
    if sample(name)["routeKey"].startswith("GET ")
    and HANDLERS[name] is not HANDLERS["list-endpoints"]
]


def changed(name: str, **headers: str) -> dict[str, Any]:
    event = sample(name)
    event["headers"] |= {header.replace("_", "-"): value for header, value in headers.items()}
    return event


def head(name: str, **headers: str) -> Reply:
    event = changed(name, **headers)
    event["routeKey"] = event["routeKey"].replace("GET", "HEAD")
    event["requestContext"]["http"]["method"] = "HEAD"
    return invoke(name, event)


@pytest.mark.parametrize("name", WITH_A_BODY)
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "Identity, GZIP", "aws-chunked"])
def test_an_encoded_body_is_415_on_every_route(name: str, coding: str) -> None:
    event = changed(name, content_encoding=coding)
    event["body"] = b64encode(gzip.compress(event["body"].encode())).decode()
    event["isBase64Encoded"] = True

    reply = invoke(name, event)

    assert (reply.status, reply.code) == (415, "content_encoding_unsupported")
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_with_identity_encoding_is_read(name: str, coding: str) -> None:
    assert set_stock(name, 1, **{"content-encoding": coding}).status == 201


@pytest.mark.parametrize("name", WITH_A_BODY)
def test_a_duplicate_member_is_400_on_every_route(name: str) -> None:
    event = sample(name)
    member = next(iter(json.loads(event["body"])), "endpointId")
    event["body"] = f'{{"{member}": null, "{member}": null}}'

    reply = invoke(name, event)

    assert (reply.status, reply.code) == (400, "body_malformed")


def test_the_number_1_0_is_the_integer_1_and_the_same_request(name: str) -> None:
    assert set_stock(name, 5).status == 201
    body = f'{{"resourceId": "{name}", "totalStock": 6.0}}'
    assert call("set-stock", body).json["totalStock"] == 6

    replies = [
        call(
            "reserve",
            f'{{"resourceId": "{name}", "quantity": {quantity}}}',
            headers={"idempotency-key": name},
        )
        for quantity in ("2", "2.0", "2e0")
    ]

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert len({reply.text for reply in replies}) == 1
    assert available(name) == 4


def test_two_idempotency_key_lines_hold_nothing_and_a_retry_with_one_holds_once(name: str) -> None:
    set_stock(name, 5)

    twice = reserve((name, 1), key=f"{name},{name}")
    once, again = reserve((name, 1), key=name), reserve((name, 1), key=name)

    assert (twice.status, twice.code) == (400, "idempotency_key_invalid")
    assert once.text == again.text
    assert available(name) == 4


@pytest.mark.parametrize("resource_id", ["{y}", "a?b#c", "100%", "Käse 🧀", "a+b&c=d", "%2F"])
def test_a_location_header_identifies_the_resource(name: str, resource_id: str) -> None:
    resource_id = f"{name}{resource_id}"
    created = set_stock(resource_id, 3)
    location = created.headers["location"]

    assert created.status == 201
    assert location.isascii()
    assert not set("?# {}") & set(location)
    assert unquote(location.removeprefix("/api/v1/resources/")) == resource_id
    assert read_resource(resource_id).json["totalStock"] == 3
    assert reserve((resource_id, 1)).status == 200


def test_the_instance_of_a_problem_is_a_uri_reference_with_the_encoded_id(name: str) -> None:
    event = sample("read-resource")
    event["pathParameters"]["resourceId"] = f"{name}?/ä"
    event["rawPath"] = (
        f"/api/v1/resources/{name}"  # API Gateway cuts the path at a decoded question mark
    )

    assert invoke("read-resource", event).json["instance"] == (
        f"/api/v1/resources/{name}%3F%2F%C3%A4"
    )
    event = sample("everything-else")
    event["rawPath"] = "/api/v1/no thing/ä%"
    assert invoke("everything-else", event).json["instance"] == "/api/v1/no%20thing/%C3%A4%25"


def test_an_id_in_nfc_and_nfd_is_one_resource_on_every_route(name: str) -> None:
    nfc, nfd = f"{name}-é", normalize("NFD", f"{name}-é")
    set_stock(nfd, 5)
    set_stock_of_many((nfd, 6))
    call("adjust-stock", {"resourceId": nfd, "difference": 1, "reason": "e\u0301"},
         headers={"idempotency-key": name})  # fmt: skip

    held = reserve((nfc, 1), (nfd, 1), key=name)
    again = reserve((nfd, 1), (nfc, 1), key=f"{name}-2")

    assert read_resource(nfd).json["resourceId"] == nfc
    assert (read_resource(nfc).json["totalStock"], available(nfc)) == (7, 3)
    assert held.json["items"] == again.json["items"] == [{"resourceId": nfc, "quantity": 2}]
    for prefix in (nfc, nfd):
        listed = list_resources(prefix=prefix).json["resources"]
        assert [each["resourceId"] for each in listed] == [nfc]
    for resource_id in (nfc, nfd):
        assert len(list_reservations(resourceId=resource_id).json["reservations"]) == 2


def test_the_same_request_in_nfc_and_nfd_is_a_replay(name: str) -> None:
    set_stock(f"{name}-é", 5)

    replies = [
        reserve((normalize(form, f"{name}-é"), 1), key=name) for form in ("NFC", "NFD", "NFC")
    ]

    assert len({reply.text for reply in replies}) == 1
    assert available(f"{name}-é") == 4


def test_a_page_continues_after_an_id_that_is_no_longer_valid(name: str, engine: Engine) -> None:
    for resource_id in (f"{name} ", f"{name} 1"):
        engine.sql(
            "INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
            f" VALUES ('{resource_id}', 1, 1)"
        )

    page = list_resources(prefix=name, limit="1").json
    then = list_resources(prefix=name, limit="1", cursor=page["nextCursor"]).json

    assert [each["resourceId"] for each in page["resources"]] == [f"{name} "]
    assert [each["resourceId"] for each in then["resources"]] == [f"{name} 1"]


@pytest.mark.parametrize(
    "limit", ["1_0", "+5", " 5", "5 ", "\uff15", "\u0665", "1e1", "5.0", "0x5", "-5", ""]
)
def test_a_limit_accepts_only_ascii_digits(limit: str) -> None:
    for listed in (list_resources, list_events, list_reservations):
        reply = listed(limit=limit)
        assert (reply.status, reply.code) == (400, "query_invalid")
        assert reply.json["errors"][0]["pointer"] == "/limit"


@pytest.mark.parametrize("newest", ["yes", "1", "TRUE", " true", ""])
def test_a_flag_is_true_or_false(newest: str) -> None:
    assert list_events(newest=newest).code == "query_invalid"
    assert list_events(newest="false").status == list_events(newest="true").status == 200


def test_a_token_in_a_path_is_a_canonical_uuid(name: str) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    digits = str.maketrans("0123456789", "".join(chr(0xFF10 + n) for n in range(10)))

    for same in (token, token.upper(), token.replace("-", "")):
        assert read_reservation(same).status == 200
    others = [f"{{{token}}}", f"urn:uuid:{token}", f" {token}", token.translate(digits)]
    for other in others:
        reply = read_reservation(other)
        assert (reply.status, reply.code) == (404, "reservation_not_found")


def test_a_cursor_with_added_characters_is_invalid(name: str) -> None:
    set_stock(f"{name}-1", 1)
    set_stock(f"{name}-2", 1)
    cursor = list_resources(prefix=name, limit="1").json["nextCursor"]

    assert list_resources(cursor=cursor).status == 200
    assert list_resources(cursor=f"!{cursor}").code == "query_invalid"


@pytest.mark.parametrize("name", READS)
def test_head_answers_like_get_without_a_body(name: str) -> None:
    get_reply, head_reply = invoke(name, sample(name)), head(name)

    assert (head_reply.status, head_reply.text) == (get_reply.status, "")
    same = ("content-type", "etag", "x-request-id")
    assert [head_reply.headers.get(header) for header in same] == [
        get_reply.headers.get(header) for header in same
    ]
    if get_reply.status == 200:
        assert int(head_reply.headers["content-length"]) > 0


def test_head_has_the_content_length_and_etag_of_get() -> None:
    set_stock("hotel-room-101", 50)
    get_reply = read_resource("hotel-room-101")
    head_reply = head("read-resource")
    known = head("read-resource", if_none_match=get_reply.headers["etag"])

    assert head_reply.headers == {
        **get_reply.headers,
        "content-length": str(len(get_reply.text.encode())),
    }
    assert (known.status, known.text) == (304, "")


def test_a_path_that_allows_get_also_allows_head() -> None:
    for route in ROUTES:
        event = sample("everything-else")
        event["rawPath"] = route.path.replace("{", "").replace("}", "")
        event["requestContext"]["http"]["method"] = "OPTIONS"
        reply = invoke("everything-else", event)
        assert (reply.status, reply.code) == (405, "method_not_allowed")
        allowed = reply.headers["allow"].split(", ")
        assert set(route.methods) <= set(allowed)
        assert ("GET" in allowed) == ("HEAD" in allowed)


def test_a_wrong_method_is_405_regardless_of_conditions() -> None:
    for condition in ("0", '"1-0123456789ab"', "*"):
        event = sample("everything-else")
        event["rawPath"] = "/api/v1/resources"
        event["requestContext"]["http"]["method"] = "DELETE"
        event["headers"] |= {"if-match": condition, "if-none-match": condition}

        assert invoke("everything-else", event).code == "method_not_allowed"


def test_if_match_accepts_a_star_and_lists_of_strong_tags(name: str) -> None:
    missing = set_stock(name, 1, **{"if-match": "*"})
    tag = set_stock(name, 1).headers["etag"]
    replies = [
        set_stock(name, total, **{"if-match": field})
        for total, field in [
            (2, "*"),
            (3, '"1", "2"'),
            (4, f'W/"3", {tag}'),
            (5, f"W/{tag}"),
            (6, '"1", W/"3"'),
            (7, '"3"'),
        ]
    ]

    assert (missing.status, missing.json["version"]) == (412, None)
    assert [reply.status for reply in replies] == [200, 200, 412, 412, 412, 200]
    assert [reply.json["version"] for reply in replies] == [2, 3, 3, 3, 3, 4]
    assert read_resource(name).json["totalStock"] == 7


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
@pytest.mark.parametrize("field", ['"01"', '"3', "", "3", '"three"', '*, "1"', '"1" "2"'])
def test_a_malformed_condition_is_400_and_changes_nothing(
    name: str, header: str, field: str
) -> None:
    set_stock(name, 1)

    reply = set_stock(name, 2, **{header: field})

    assert (reply.status, reply.code) == (400, "condition_invalid")
    assert read_resource(name).json["totalStock"] == 1


def test_if_none_match_with_a_star_creates_and_never_updates(name: str) -> None:
    created = set_stock(name, 1, **{"if-none-match": "*"})
    again = set_stock(name, 2, **{"if-none-match": "*"})

    assert created.status == 201
    assert (again.status, again.code, again.json["version"]) == (412, "version_mismatch", 1)
    assert read_resource(name).json["totalStock"] == 1


def test_if_none_match_on_a_write_compares_weakly(name: str) -> None:
    set_stock(name, 1)

    assert set_stock(name, 2, **{"if-none-match": 'W/"1"'}).status == 412
    assert set_stock(name, 2, **{"if-none-match": '"2", "3"'}).status == 200


def test_a_total_changed_between_the_read_and_the_write_is_read_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 1)
    find = resources.find_resource

    def find_and_be_overtaken(resource_id: str) -> Resource:
        monkeypatch.undo()
        resource = find(resource_id)
        set_stock(name, 2)
        return resource

    monkeypatch.setattr("openreserve.postgres.resources.find_resource", find_and_be_overtaken)
    overtaken = set_stock(name, 3, **{"if-match": '"1"'})
    monkeypatch.setattr("openreserve.postgres.resources.find_resource", find_and_be_overtaken)
    reply = set_stock(name, 4, **{"if-match": "*"})

    assert (overtaken.status, overtaken.json["version"]) == (412, 2)
    assert (reply.status, reply.json["totalStock"]) == (200, 4)


def test_a_read_compares_the_whole_etag(name: str) -> None:
    tag = set_stock(name, 5).headers["etag"]

    def status(**headers: str) -> tuple[int, str]:
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        reply = read_resource(name, **named)
        return reply.status, reply.code

    assert status(if_match=tag) == status(if_match="*") == (200, "ok")
    assert status(if_match=f'"x,y", {tag}') == (200, "ok")
    assert status(if_match=f"W/{tag}") == status(if_match='"1"') == (412, "precondition_failed")
    assert status(if_none_match=f"W/{tag}") == status(if_none_match="*") == (304, "ok")
    assert status(if_none_match=f'"x", {tag}') == (304, "ok")
    assert status(if_none_match='"1"') == (200, "ok")
    assert status(if_match='"x') == status(if_none_match="x") == (400, "condition_invalid")
    assert status(if_match='"x"', if_none_match=tag) == (412, "precondition_failed")


def test_a_condition_does_not_hide_a_missing_resource(name: str) -> None:
    assert read_resource(name, **{"if-match": '"1"'}).code == "resource_not_found"
    assert read_resource(name, **{"if-none-match": "*"}).code == "resource_not_found"
    missing = changed("read-reservation", if_match='"1"')
    assert invoke("read-reservation", missing).code == "reservation_not_found"


def test_a_condition_does_not_hide_a_postgres_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable() -> int:
        raise errors.DatabaseUnavailable

    monkeypatch.setattr("openreserve.postgres.maintenance.ping", unreachable)

    assert invoke("health", changed("health", if_match='"1"')).status == 503


def test_a_conditional_write_without_etag_support_is_refused(name: str) -> None:
    set_stock(name, 5)
    token = hold((name, 1))
    body = {"resourceId": name, "quantity": 1}
    for headers in ({"if-match": '"1"'}, {"if-none-match": "*"}):
        refused = call("reserve", body, headers=headers | {"idempotency-key": name})
        assert (refused.status, refused.code) == (412, "precondition_failed")
        assert call("commit", {"token": token}, headers=headers).status == 412
        assert call("release", {"token": token}, headers=headers).status == 412
    malformed = call("release", {"token": token}, headers={"if-match": '"1'})

    assert (malformed.status, malformed.code) == (400, "condition_invalid")
    assert read_reservation(token).json["status"] == "HELD"
    assert available(name) == 4
    harmless = {"if-match": "*", "if-none-match": '"1"'}
    assert call("commit", {"token": token}, headers=harmless).status == 200


def test_a_conditional_read_without_etags_matches_no_tag() -> None:
    for each in ("list-resources", "list-events", "list-reservations", "health"):
        named = invoke(each, changed(each, if_match='"1", W/"2"'))
        assert (named.status, named.code) == (412, "precondition_failed")
        assert invoke(each, changed(each, if_match='"1')).code == "condition_invalid"
        for harmless in ({"if_match": "*"}, {"if_none_match": '"1"'}, {"if_none_match": "*"}):
            assert invoke(each, changed(each, **harmless)).status == 200
    unknown = changed("everything-else", if_match='"1"', if_none_match="*")
    unknown["requestContext"]["http"]["method"] = "PUT"
    assert invoke("everything-else", unknown).code == "method_not_allowed"


def test_date_conditions_are_ignored_without_last_modified(name: str) -> None:
    long_ago, far_ahead = "Sat, 01 Jan 2000 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"
    set_stock(name, 1)

    unmodified = set_stock(name, 2, **{"if-unmodified-since": long_ago})
    modified = read_resource(name, **{"if-modified-since": far_ahead})

    assert (unmodified.status, unmodified.json["totalStock"]) == (200, 2)
    assert (modified.status, "last-modified" in modified.headers) == (200, False)
    assert commit(hold((name, 1))).status == 200
