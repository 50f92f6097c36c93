"""Creating, setting, reading and listing stock."""

import psycopg
import pytest

from openreserve.postgres.sql import statements
from tests.conftest import Engine
from tests.support.handlers import (
    call,
    commit,
    hold,
    invoke,
    list_resources,
    read_resource,
    sample,
    set_stock,
)

pytestmark = pytest.mark.usefixtures("engine")


def test_a_new_resource_is_201_and_a_changed_one_200(name: str) -> None:
    created, changed = set_stock(name, 50), set_stock(name, 60)

    assert (created.status, changed.status) == (201, 200)
    assert created.headers["location"] == f"/api/v1/resources/{name}"
    assert changed.json["totalStock"] == changed.json["availableStock"] == 60
    assert (created.json["version"], changed.json["version"]) == (1, 2)
    assert changed.headers["etag"] == read_resource(name).headers["etag"]


def test_setting_the_same_total_again_changes_nothing(name: str) -> None:
    first, again = set_stock(name, 50), set_stock(name, 50)

    assert again.status == 200
    assert again.text == first.text


def test_a_new_total_changes_available_stock_and_no_reservation(name: str) -> None:
    set_stock(name, 10)
    commit(hold((name, 3)))
    hold((name, 2))

    raised = set_stock(name, 20).json
    lowered = set_stock(name, 5).json

    assert (raised["availableStock"], raised["heldStock"], raised["committedStock"]) == (15, 2, 3)
    assert (lowered["availableStock"], lowered["heldStock"], lowered["committedStock"]) == (0, 2, 3)


def test_a_total_below_held_and_committed_units_is_refused(name: str) -> None:
    set_stock(name, 10)
    commit(hold((name, 3)))
    hold((name, 2))

    reply = set_stock(name, 4)

    assert (reply.status, reply.code) == (409, "below_allocated")
    assert (reply.json["totalStock"], reply.json["allocatedStock"]) == (4, 5)
    assert read_resource(name).json["totalStock"] == 10


def test_if_match_refuses_when_the_total_was_changed_since(name: str) -> None:
    etag = set_stock(name, 10).headers["etag"]
    hold((name, 1))  # reservations do not change the version: it is that of the total

    matched = set_stock(name, 11, **{"if-match": etag})
    stale = set_stock(name, 12, **{"if-match": etag})

    assert matched.json["totalStock"] == 11
    assert (stale.status, stale.code, stale.json["version"]) == (412, "version_mismatch", 2)
    assert read_resource(name).json["totalStock"] == 11


def test_if_match_never_creates(name: str) -> None:
    reply = set_stock(name, 1, **{"if-match": '"1"'})

    assert (reply.status, reply.json["version"]) == (412, None)
    assert read_resource(name).status == 404


def test_a_read_with_the_current_etag_is_304_until_the_resource_changes(name: str) -> None:
    etag = set_stock(name, 10).headers["etag"]

    same = read_resource(name, **{"if-none-match": etag})
    token = hold((name, 1))
    held = read_resource(name, **{"if-none-match": etag})
    commit(token)
    committed = read_resource(name, **{"if-none-match": held.headers["etag"]})

    assert (same.status, same.text, same.headers["etag"]) == (304, "", etag)
    assert (held.status, held.json["heldStock"]) == (200, 1)
    assert (committed.status, committed.json["committedStock"]) == (200, 1)


@pytest.mark.parametrize("resource_id", ["nothing-here", "", "a\0b", "a" * 201])
def test_an_unknown_resource_is_404(resource_id: str) -> None:
    reply = read_resource(resource_id)

    assert (reply.status, reply.code) == (404, "resource_not_found")


def test_a_list_is_paged_in_order_of_the_ids(name: str) -> None:
    ids = [f"{name}-{number:02}" for number in range(7)] + [f"{name}-Ä", f"{name}-🧀"]
    for resource_id in ids:
        set_stock(resource_id, 1)
    set_stock(f"{name[:-1]}\x7e", 1)  # sorts after the others, but does not have their prefix

    pages, cursor = [], ""
    while True:
        page = list_resources(prefix=f"{name}-", limit="4", cursor=cursor).json
        pages.append([resource["resourceId"] for resource in page["resources"]])
        cursor = page.get("nextCursor", "")
        if not cursor:
            break

    assert [len(page_ids) for page_ids in pages] == [4, 4, 1]
    assert [resource_id for page_ids in pages for resource_id in page_ids] == sorted(
        ids, key=str.encode
    )


def test_concurrent_inserts_and_deletes_do_not_shift_the_pages(name: str) -> None:
    for number in (1, 3, 5):
        set_stock(f"{name}-{number}", 1)
    first = list_resources(prefix=name, limit="2").json
    for number in (2, 4):
        set_stock(f"{name}-{number}", 1)

    second = list_resources(prefix=name, limit="9", cursor=first["nextCursor"]).json

    assert [r["resourceId"][-1] for r in first["resources"] + second["resources"]] == list("1345")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "many"},
        {"cursor": "?"},
        {"cursor": "YS9i"},
        {"cursor": "AA=="},
        {"prefix": "a/b"},
        {"prefix": "\0"},
        {"sort": "name"},
    ],
)
def test_a_malformed_query_is_400(query: dict[str, str]) -> None:
    reply = list_resources(**query)

    assert (reply.status, reply.code) == (400, "query_invalid")
    assert reply.json["errors"][0]["pointer"] == f"/{next(iter(query))}"


def test_a_percent_sign_in_a_prefix_is_literal(name: str) -> None:
    set_stock(f"{name}-100%-wool", 1)

    assert len(list_resources(prefix=f"{name}-100%").json["resources"]) == 1
    assert list_resources(prefix=f"{name}-1%").json["resources"] == []


def test_a_prefix_search_uses_the_primary_key(engine: Engine) -> None:
    with psycopg.connect(engine.direct_url, prepare_threshold=None) as connection:
        plan = connection.execute(
            f"EXPLAIN {statements('resources').list_resources}".encode(),
            {"prefix": "hotel-", "after": "", "limit": 5},
        ).fetchall()

    assert any("resource_id >= 'hotel-'" in line for (line,) in plan), plan


def test_an_unsupported_method_is_405_and_an_unknown_path_404() -> None:
    wrong_method = call("everything-else")
    event = sample("everything-else")
    event["rawPath"] = "/api/v1/nothing"
    unknown = invoke("everything-else", event)

    assert (wrong_method.status, wrong_method.headers["allow"]) == (405, "POST")
    assert (unknown.status, unknown.code) == (404, "route_not_found")
