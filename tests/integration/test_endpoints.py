"""The management of webhook endpoints: create, update, ping, rotate and delete."""

import json
from typing import Any

import pytest

from infra.local.aws import Aws
from openreserve.webhooks import endpoints
from openreserve.webhooks.endpoints import new_secret
from tests.conftest import forget
from tests.support.deliveries import endpoint, listed
from tests.support.handlers import Reply, call, invoke, sample
from tests.support.receiver import CommandError, Receiver

pytestmark = pytest.mark.usefixtures("queues")

SHOP = {"endpointId": "shop", "url": "https://shop.example.com/events", "events": []}


def of(name: str, endpoint_id: str = "shop") -> Reply:
    request = sample(name)
    request["pathParameters"]["endpointId"] = endpoint_id
    return invoke(name, request)


def all_listed() -> list[Any]:
    reply = call("list-endpoints")
    assert reply.status == 200, reply
    endpoints: list[Any] = reply.json["webhooks"]
    return endpoints


def stored_secret(own_aws: Aws, name: str, endpoint_id: str = "shop") -> str:
    """The stored secret of an endpoint."""
    answer = own_aws.client("secretsmanager").get_secret_value(SecretId=f"{name}/{endpoint_id}")
    return str(answer["SecretString"])


def test_creating_an_endpoint_shows_its_secret_once() -> None:
    reply = call("save-endpoint")

    view = {
        "endpointId": "shop",
        "url": "https://shop.example.com/inventory-events",
        "events": ["STOCK_DEPLETED", "STOCK_RESTORED"],
    }
    secret = reply.json["secret"]
    assert (reply.status, reply.json) == (201, view | {"secret": secret})
    assert secret.startswith("whsec_")
    assert all_listed() == [view]
    assert "whsec_" not in call("list-endpoints").text


def test_an_update_keeps_the_secrets_and_shows_none(receiver: Receiver) -> None:
    secrets = [endpoint(f"{receiver.url}/old"), of("rotate-secret").json["secret"]]

    reply = call("save-endpoint", SHOP | {"url": f"{receiver.url}/new"})

    assert reply.status == 200
    assert reply.json == {"endpointId": "shop", "url": f"{receiver.url}/new", "events": []}
    of("ping-endpoint")
    (delivery,) = receiver.received
    assert delivery.path == "/new"
    assert all(delivery.is_signed_with(secret) for secret in secrets)


@pytest.mark.parametrize("name_of_it", ["save-endpoint", "rotate-secret"])
def test_updating_a_disabled_endpoint_enables_it(name_of_it: str) -> None:
    endpoint("https://shop.example.com/")
    endpoints.disable("shop", "2026-03-31T10:47:11Z it answered 410")
    assert listed()["disabled"] == "2026-03-31T10:47:11Z it answered 410"

    assert of(name_of_it).status == 200 if name_of_it == "rotate-secret" else call(name_of_it)

    assert "disabled" not in listed()


def test_a_rotation_shows_the_new_secret_once_and_changes_nothing_else() -> None:
    first = endpoint("https://shop.example.com/", "shop", "STOCK_DEPLETED")
    before = all_listed()

    reply = of("rotate-secret")

    assert reply.status == 200
    assert reply.json == before[0] | {"secret": reply.json["secret"]}
    assert reply.json["secret"] not in (first, "")
    assert all_listed() == before


def test_a_deleted_endpoint_is_unknown_and_can_be_created_again() -> None:
    first = endpoint("https://shop.example.com/")

    assert [of("remove-endpoint").status, of("remove-endpoint").status] == [204, 404]
    assert all_listed() == []
    assert endpoint("https://shop.example.com/") not in (first, "")


@pytest.mark.parametrize("name_of_it", ["remove-endpoint", "rotate-secret", "ping-endpoint"])
@pytest.mark.parametrize(
    "endpoint_id", ["nobody", "sho", "shop2", "SHOP", "", "a/b", "ä", "x" * 600]
)
def test_an_unknown_endpoint_is_not_found(name_of_it: str, endpoint_id: str) -> None:
    endpoint("https://shop.example.com/")

    reply = of(name_of_it, endpoint_id)

    assert (reply.status, reply.code) == (404, "endpoint_not_found")
    assert reply.json["endpointId"] == endpoint_id
    assert len(all_listed()) == 1


def test_an_outdated_list_of_secrets_hides_no_endpoint_and_loses_no_secret(
    own_aws: Aws, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ListSecrets of Secrets Manager may be five minutes stale."""
    endpoint("https://shop.example.com/")
    before = stored_secret(own_aws, name)
    monkeypatch.setattr(endpoints, "_listed", lambda: iter(()))

    assert call("save-endpoint", SHOP | {"url": "https://shop.example.com/"}).status == 200
    assert stored_secret(own_aws, name) == before
    assert of("rotate-secret").status == 200
    assert of("remove-endpoint").status == 204


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"endpointId": ""}, "/endpointId"),
        ({"endpointId": "a/b"}, "/endpointId"),
        ({"endpointId": "-a"}, "/endpointId"),
        ({"endpointId": "a b"}, "/endpointId"),
        ({"endpointId": "ä"}, "/endpointId"),
        ({"endpointId": "shop\n"}, "/endpointId"),
        ({"endpointId": "x" * 65}, "/endpointId"),
        ({"endpointId": None}, "/endpointId"),
        ({"url": "ftp://shop.example.com/"}, "/url"),
        ({"url": "https://me@shop.example.com/"}, "/url"),
        ({"url": "https://"}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": "https://shop.example.com/" + "x" * 2_000}, "/url"),
        ({"events": ["STOCK_DEPLETED", "STOCK_GONE"]}, "/events/1"),
        ({"events": "STOCK_DEPLETED"}, "/events"),
        ({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "/secret"),
    ],
)
def test_an_invalid_endpoint_is_refused_with_a_pointer_and_changes_nothing(
    change: dict[str, Any], pointer: str, own_aws: Aws, name: str
) -> None:
    endpoint("https://shop.example.com/")
    before = (all_listed(), stored_secret(own_aws, name))

    reply = call("save-endpoint", SHOP | change)

    assert (reply.status, reply.code) == (400, "body_invalid")
    assert [fault["pointer"] for fault in reply.json["errors"]] == [pointer]
    assert (all_listed(), stored_secret(own_aws, name)) == before


def test_outside_development_an_endpoint_requires_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", "0")
    forget()

    reply = call("save-endpoint", SHOP | {"url": "http://shop.example.com/"})

    assert reply.json["errors"] == [{"pointer": "/url", "message": "must begin with https://"}]
    assert all_listed() == []


def test_all_pages_of_endpoints_are_listed_in_order_of_their_ids(own_aws: Aws, name: str) -> None:
    manager = own_aws.client("secretsmanager")
    ids = [f"shop-{number:03}" for number in range(45)]
    for endpoint_id in reversed(ids):
        value = f'{{"url": "https://{endpoint_id}.example.com/", "secret": "{new_secret()}"}}'
        manager.create_secret(Name=f"{name}/{endpoint_id}", SecretString=value)

    assert [each["endpointId"] for each in all_listed()] == ids
    assert all(each["url"] == f"https://{each['endpointId']}.example.com/" for each in all_listed())


def test_an_endpoint_created_manually_or_by_a_template_works_and_can_be_rotated(
    own_aws: Aws, receiver: Receiver, name: str
) -> None:
    """CloudFormation can generate one secret, but not a list of them."""
    secret = new_secret()
    value = f'{{"url": "{receiver.url}/", "secret": "{secret}"}}'
    own_aws.client("secretsmanager").create_secret(Name=f"{name}/shop", SecretString=value)

    of("ping-endpoint")
    fresh = of("rotate-secret").json["secret"]
    of("ping-endpoint")

    first, second = receiver.received
    assert [first.is_signed_with(each) for each in (secret, fresh)] == [True, False]
    assert [second.is_signed_with(each) for each in (secret, fresh)] == [True, True]


def test_saving_an_unreadable_endpoint_shows_its_new_secret(
    own_aws: Aws, receiver: Receiver, name: str
) -> None:
    own_aws.client("secretsmanager").create_secret(Name=f"{name}/shop", SecretString="not JSON")
    assert listed() == {"endpointId": "shop", "url": "", "events": []}

    secret = endpoint(f"{receiver.url}/")

    of("ping-endpoint")
    assert receiver.received[0].is_signed_with(secret)


def test_the_endpoints_of_another_stage_are_not_visible(own_aws: Aws, name: str) -> None:
    manager = own_aws.client("secretsmanager")
    value = (
        '{"url": "https://shop.example.com/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}'
    )
    for other in (f"{name}/staging/shop", f"{name}-staging/shop", f"other/{name}/shop", f"{name}/"):
        manager.create_secret(Name=other, SecretString=value)

    assert all_listed() == []
    assert {of(each).status for each in ("ping-endpoint", "remove-endpoint")} == {404}


def test_a_ping_is_delivered_like_an_event(receiver: Receiver) -> None:
    secret = endpoint(f"{receiver.url}/", "shop", "STOCK_DEPLETED")

    reply = of("ping-endpoint")

    (delivery,) = receiver.received
    content = json.loads(delivery.content)
    assert (reply.status, reply.json["delivered"], reply.json["status"]) == (200, True, 204)
    assert reply.json["id"] == delivery.id == content["id"]
    assert (content["type"], content["timestamp"][-1]) == ("PING", "Z")
    assert delivery.is_signed_with(secret)


@pytest.mark.parametrize("status", [302, 410, 500])
def test_a_ping_reports_the_response_and_disables_no_endpoint(
    status: int, receiver: Receiver
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(status, {"location": "/elsewhere"})

    reply = of("ping-endpoint")

    assert (reply.status, reply.json["delivered"], reply.json["status"]) == (200, False, status)
    assert len(receiver.received) == 1
    assert "disabled" not in listed()


@pytest.mark.parametrize(
    ("url", "development", "reason"),
    [
        ("http://127.0.0.1:9/", "1", "ConnectError: All connection attempts failed"),
        ("https://127.0.0.1/", "0", "the host name resolves to an address that is not public"),
        ("https://127.0.0.1:9/", "0", "port 9 is not allowed"),
        (f"https://{'a' * 64}.example/", "0", "the host name is invalid"),
    ],
)
def test_a_ping_that_reaches_no_server_reports_why(
    url: str, development: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", development)
    forget()
    endpoint(url)

    reply = of("ping-endpoint")

    assert reply.status == 200
    assert reply.json == {"id": reply.json["id"], "delivered": False, "reason": reason}
