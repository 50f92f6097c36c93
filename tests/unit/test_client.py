"""The Python client: what it repeats, what it raises, and what it makes of an answer."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

import openreserve_client
from openreserve.domain import reservations, resources
from openreserve.http import idempotency
from openreserve.http.problems import STATUSES
from openreserve_client import (
    Client,
    InvalidSignature,
    Item,
    NotAnswered,
    Status,
    errors,
    resource_ids,
    transport,
    verify_webhook,
)
from openreserve_client.signing import CannotSign, bearer, sigv4
from tests.e2e.runtime import ROOT, free_port
from tests.support.scripted_http import Step, problem, scripted

TOKEN = "550e8400-e29b-41d4-a716-446655440000"
HELD = {
    "token": TOKEN,
    "resourceId": "a",
    "quantity": 1,
    "items": [{"resourceId": "a", "quantity": 1}],
    "status": "HELD",
    "expiresAt": "2026-03-31T10:47:11.271Z",
}
RESOURCE = {
    "resourceId": "a",
    "totalStock": 50,
    "availableStock": 35,
    "heldStock": 5,
    "committedStock": 10,
    "version": 3,
    "updatedAt": "2026-03-31T10:42:11.084Z",
}
IN_PROGRESS = problem(409, "idempotency_in_progress", headers={"retry-after": "0"})
DROPPED = Step(None)


@pytest.mark.parametrize(
    "hurdle",
    [
        IN_PROGRESS,
        problem(503, "contention"),
        problem(503, "database_unavailable"),
        Step(429, {"message": "Too Many Requests"}),
        Step(503, {"message": "Service Unavailable"}),
        Step(504, b"<html>late</html>"),
        Step(502, {"message": "Bad Gateway"}),
        Step(500, {"message": "Internal Server Error"}),
        DROPPED,
        Step(200, HELD, after_seconds=0.5),
    ],
)
def test_a_hold_is_asked_for_with_the_same_key_until_it_is_answered(hurdle: Step) -> None:
    with scripted(hurdle, hurdle, Step(200, HELD)) as server:
        with Client(server.url, timeout_seconds=0.2) as client:
            hold = client.hold("a")

        assert hold.token == UUID(TOKEN)
        assert len(server.asked) == 3
        assert set(server.keys) == {hold.key}
        assert len({json.dumps(asked.body) for asked in server.asked}) == 1


def test_an_empty_key_is_sent_and_not_replaced_by_a_new_one() -> None:
    """As a script has it whose variable is not set: each repeat would hold or move anew."""
    with scripted(problem(400, "idempotency_key_missing")) as server, Client(server.url) as client:
        with pytest.raises(errors.IdempotencyKeyMissing):
            client.hold("a", key="")
        with pytest.raises(errors.IdempotencyKeyMissing):
            client.adjust_stock("a", 1, "counted", key="")

        assert server.keys == ["", ""]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(409, "out_of_stock", items=[]), errors.OutOfStock),
        (problem(410, "hold_expired"), errors.HoldExpired),
        (problem(422, "idempotency_key_reused"), errors.IdempotencyKeyReused),
        (problem(400, "body_invalid"), errors.BodyInvalid),
    ],
)
def test_a_refusal_is_raised_at_once_as_the_error_of_its_code(
    answer: Step, error: type[errors.OpenReserveError]
) -> None:
    with scripted(answer) as server, Client(server.url) as client:
        with pytest.raises(error) as raised:
            client.hold("a")

        assert len(server.asked) == 1
        assert raised.value.details == answer.body


def test_every_error_code_of_the_api_has_an_exception_with_its_status() -> None:
    assert {(error.status, code) for code, error in errors.ERRORS.items()} == set(STATUSES.values())
    assert all(error.code == code and error.__doc__ for code, error in errors.ERRORS.items())


def test_exceptions_of_unavailable_dependencies_are_faults_and_all_others_refusals() -> None:
    for error in errors.ERRORS.values():
        assert issubclass(error, errors.Fault) == (error.status >= 500)
        assert issubclass(error, errors.Refusal) == (error.status < 500)


def test_the_message_of_an_exception_is_the_detail_of_the_problem_document() -> None:
    refusal = problem(409, "out_of_stock", detail="Only 3 units are available.")
    with (
        scripted(refusal) as server,
        Client(server.url) as client,
        pytest.raises(errors.OutOfStock, match=r"^Only 3 units are available\.$"),
    ):
        client.hold("a")

    assert str(errors.OutOfStock()) == "Fewer units are available than requested."


def test_every_status_of_a_reservation_is_known_to_the_client() -> None:
    assert {status.value for status in Status} == {status.value for status in reservations.Status}


ID_CHARACTERS = st.one_of(
    st.characters(), st.sampled_from("aé./ \u0301\u200c\u200d\u0915\U0001f468\n\udcff\u00a0")
)
ID_TEXTS = st.one_of(st.text(ID_CHARACTERS, max_size=9), st.text("ab\u0301", max_size=210))


@given(ID_TEXTS)
def test_the_client_has_the_rules_of_the_server_for_ids_and_prefixes(text: str) -> None:
    assert _result(resource_ids.normalized_resource_id, text) == _result(
        resources.normalized_resource_id, text
    )
    assert _result(resource_ids.normalized_prefix, text) == _result(
        resources.normalized_prefix, text
    )
    assert resource_ids.TOTAL_STOCK_MAX == resources.TOTAL_STOCK_MAX


def _result(normalized: Callable[[str], str], text: str) -> str:
    try:
        return f"ok: {normalized(text)}"
    except ValueError as error:
        return f"refused: {error}"


@given(st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=40))
def test_an_idempotency_key_is_encoded_as_the_server_parses_it(key: str) -> None:
    if key.isprintable():
        assert idempotency.parsed_key(transport._encoded_key(key)) == key


def test_all_exported_names_can_be_imported() -> None:
    for name in openreserve_client.__all__:
        assert getattr(openreserve_client, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = openreserve_client.no_such_name


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (problem(500, "internal_error"), 500, "internal_error"),
        (Step(403, {"message": "Forbidden"}), 403, "http_403"),
        (Step(200, b"<html>a login page</html>"), 200, "http_200"),
        (Step(418, []), 418, "http_418"),
    ],
)
def test_what_the_api_does_not_answer_is_not_repeated_and_keeps_its_key(
    answer: Step, status: int, code: str
) -> None:
    with scripted(answer) as server, Client(server.url) as client:
        with pytest.raises(NotAnswered) as raised:
            client.hold("a", key="k-1")

        assert len(server.asked) == 1
        assert (raised.value.status, raised.value.code) == (status, code)
        assert raised.value.key == "k-1"


def test_a_key_with_a_comma_is_sent_quoted_and_stays_the_same_for_a_repeat() -> None:
    with scripted(Step(200, HELD), Step(403, {})) as server, Client(server.url) as client:
        hold = client.hold("a", key='a,"b"')
        with pytest.raises(NotAnswered) as raised:
            client.hold("a", key=hold.key)

        assert server.keys == [r'"a,\"b\""'] * 2
        assert hold.key == raised.value.key == 'a,"b"'


def test_a_server_that_is_away_is_given_up_when_patience_ends() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", patience_seconds=0.3) as client:
        started = time.monotonic()
        with pytest.raises(NotAnswered, match="could not connect to") as raised:
            client.read_resource("a")

    assert time.monotonic() - started < 10
    assert (raised.value.status, raised.value.code) == (None, "server_unreachable")


def test_a_fault_that_stays_is_raised_as_the_fault() -> None:
    with scripted(problem(503, "contention")) as server:
        with (
            Client(server.url, patience_seconds=0.3) as client,
            pytest.raises(errors.Contention),
        ):
            client.commit(TOKEN)

        assert len(server.asked) > 1


def test_pauses_are_left_to_chance_below_a_bound_that_doubles_up_to_a_limit() -> None:
    runs = [list(islice(transport.pauses(), 10)) for _ in range(300)]
    longest = [max(column) for column in zip(*runs, strict=True)]

    for number, pause in enumerate(longest):
        bound = min(transport.PAUSE_SECONDS_MIN * 2**number, transport.PAUSE_SECONDS_MAX)
        assert bound / 2 < pause <= bound
    assert len({pause for run in runs for pause in run}) == 3_000


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    late = problem(503, "contention", headers={"retry-after": "60"})
    with scripted(late, Step(200, RESOURCE)) as server, Client(server.url) as client:
        with pytest.raises(errors.Contention):
            client.read_resource("a")  # sixty seconds are more than its patience

        assert len(server.asked) == 1


def test_a_change_that_expects_a_version_is_not_sent_twice() -> None:
    with scripted(DROPPED) as server, Client(server.url) as client:
        with pytest.raises(NotAnswered):
            client.set_stock("a", 5, version=3)

        assert len(server.asked) == 1
        assert server.asked[0].headers["if-match"] == '"3"'


def test_a_connection_that_was_closed_while_it_lay_idle_costs_no_patience() -> None:
    with (
        scripted(Step(200, RESOURCE), DROPPED, Step(200, RESOURCE)) as server,
        Client(server.url, patience_seconds=0) as client,
    ):
        client.read_resource("a")
        client.read_resource("a")

        assert len(server.asked) == 3


def test_an_exception_in_the_context_of_a_hold_releases_it() -> None:
    released = HELD | {"status": "RELEASED"}
    with scripted(Step(200, HELD), Step(200, released)) as server, Client(server.url) as client:
        with pytest.raises(ZeroDivisionError), client.hold("a") as hold:
            _ = 1 / 0

        assert [asked.path for asked in server.asked] == ["/api/v1/reserve", "/api/v1/release"]
        assert hold.reservation.status is Status.RELEASED


def test_an_exception_after_the_commit_releases_nothing() -> None:
    committed = HELD | {"status": "COMMITTED"}
    with scripted(Step(200, HELD), Step(200, committed)) as server, Client(server.url) as client:
        hold = client.hold("a")
        hold.commit()
        with pytest.raises(ZeroDivisionError), hold:
            _ = 1 / 0

        assert [asked.path for asked in server.asked] == ["/api/v1/reserve", "/api/v1/commit"]


def test_a_context_that_nothing_goes_wrong_in_leaves_the_hold_as_it_is() -> None:
    with scripted(Step(200, HELD)) as server, Client(server.url) as client:
        with client.hold("a"):
            pass

        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "notes"), [(DROPPED, 1), (problem(409, "already_committed"), 0)]
)
def test_a_release_that_fails_does_not_hide_what_went_wrong_first(answer: Step, notes: int) -> None:
    with (
        scripted(Step(200, HELD), answer) as server,
        Client(server.url, patience_seconds=0) as client,
        pytest.raises(ZeroDivisionError) as raised,
        client.hold("a"),
    ):
        _ = 1 / 0

    assert len(getattr(raised.value, "__notes__", [])) == notes
    assert TOKEN not in str(getattr(raised.value, "__notes__", []))


def test_answers_are_typed() -> None:
    with scripted(Step(200, HELD | {"reacquired": True})) as server, Client(server.url) as client:
        reservation = client.commit(TOKEN, reacquire=True)
        assert server.asked[0].body == {"token": TOKEN, "ifExpired": "reacquire"}
    with scripted(Step(200, RESOURCE)) as server, Client(server.url) as client:
        resource = client.read_resource("a b%ä")
        assert server.asked[0].path == "/api/v1/resources/a%20b%25%C3%A4"

    assert reservation.items == (Item("a", 1),)
    assert reservation.expires_at == datetime(2026, 3, 31, 10, 47, 11, 271000, tzinfo=UTC)
    assert reservation.reacquired
    assert (resource.available_stock, resource.held_stock, resource.version) == (35, 5, 3)


def test_a_list_is_walked_lazily_over_its_pages() -> None:
    first = {"resources": [RESOURCE], "nextCursor": "c-1"}
    with scripted(Step(200, first), Step(200, {"resources": [RESOURCE]})) as server:
        with Client(server.url) as client:
            resources = client.list_resources("a")
            next(resources)
            asked_for_one = len(server.asked)
            rest = list(resources)

        assert (asked_for_one, len(rest)) == (1, 1)
        assert server.asked[1].path == "/api/v1/resources?prefix=a&cursor=c-1&limit=200"


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", ""])
def test_a_server_url_that_is_none_is_refused_at_once(url: str) -> None:
    if url:
        with pytest.raises(ValueError, match="is not a server URL"):
            Client(url)
    else:
        Client(url)  # as if it were not given


EVENT = {
    "id": "0f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "type": "STOCK_DEPLETED",
    "resourceId": "a",
    "value": 0,
    "timestamp": "2026-03-31T10:47:11.271Z",
    "sequence": 1,
    "tokens": [TOKEN],
}
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()


def signed(body: bytes, secret: str, age_seconds: int = 0) -> dict[str, str]:
    moment = datetime.fromtimestamp(int(time.time()) - age_seconds, UTC)
    return {
        "Webhook-Id": EVENT["id"],  # type: ignore[dict-item]
        "Webhook-Timestamp": str(int(moment.timestamp())),
        "Webhook-Signature": Webhook(secret).sign(str(EVENT["id"]), moment, body.decode()),
    }


@pytest.mark.parametrize("secrets", [[SECRET], [OTHER_SECRET, SECRET]])
def test_a_webhook_signed_with_one_of_the_secrets_is_believed(secrets: list[str]) -> None:
    body = json.dumps(EVENT).encode()

    event = verify_webhook(body, signed(body, SECRET), *secrets)

    assert (event.type, event.resource_id, event.value) == ("STOCK_DEPLETED", "a", 0)
    assert event.tokens == (UUID(TOKEN),)


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Signature": "v1,AAAA"},
        {"Webhook-Signature": "nonsense"},
        {"Webhook-Signature": "v1,%"},
        {"Webhook-Id": "another"},
        {"Webhook-Timestamp": "yesterday"},
    ],
)
def test_a_webhook_with_another_signature_is_not_believed(change: dict[str, str]) -> None:
    body = json.dumps(EVENT).encode()

    with pytest.raises(InvalidSignature):
        verify_webhook(body, signed(body, SECRET) | change, SECRET)


def test_a_webhook_that_is_old_altered_or_no_event_is_not_believed() -> None:
    body = json.dumps(EVENT).encode()
    for altered, headers in [
        (body, signed(body, SECRET, age_seconds=600)),
        (body + b" ", signed(body, SECRET)),
        (body, signed(body, OTHER_SECRET)),
        (b"[]", signed(b"[]", SECRET)),
        (b"{}", signed(b"{}", SECRET)),
        (b"x", signed(b"x", SECRET)),
        (body, {}),
    ]:
        with pytest.raises(InvalidSignature):
            verify_webhook(altered, headers, SECRET)


def test_each_attempt_is_signed_with_sigv4_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    sign = sigv4("https://a1b2c3.execute-api.eu-central-1.amazonaws.com")
    with scripted(problem(503, "contention"), Step(200, HELD)) as server:
        with Client(server.url, sign=sign) as client:
            client.hold("a", key="k-1")

        assert len(server.asked) == 2
        for asked in server.asked:
            authorization = asked.headers["authorization"]
            assert "/eu-central-1/execute-api/aws4_request" in authorization
            assert "idempotency-key" in authorization
            assert asked.body["items"]


def test_a_token_goes_with_each_try_and_with_what_the_call_says_besides() -> None:
    with scripted(problem(503, "contention"), Step(200, HELD)) as server:
        with Client(server.url, sign=bearer("a.b.c")) as client:
            client.hold("a", key="k-1")

        assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer a.b.c"] * 2
        assert server.keys == ["k-1", "k-1"]
        assert server.asked[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("token", ["", "a b", "a\r\nx-other: 1", "ä"])
def test_what_cannot_be_a_token_is_not_sent(token: str) -> None:
    with pytest.raises(CannotSign):
        bearer(token)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gateway_that_refuses_the_caller_is_believed_at_once(status: int) -> None:
    with scripted(Step(status, {"message": "No"})) as server, Client(server.url) as client:
        with pytest.raises(
            NotAnswered, match=rf"(authentication failed|access denied) \({status}\)"
        ):
            client.hold("a")

        assert len(server.asked) == 1


def test_what_is_needed_to_sign_and_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(CannotSign, match="AWS_REGION"):
        sigv4("http://localhost:8080")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(CannotSign, match="no-such-profile"):
        sigv4("http://localhost:8080")


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (
            "functions.reserve.app, functions.stock.app, functions.backoffice.app",
            "openreserve_client",
        ),
        (
            "functions.commit.app, functions.release.app, functions.reconcile.app",
            "openreserve_client",
        ),
        ("openreserve_client.client", "click"),
        ("openreserve_client.client", "pydantic"),
        ("openreserve_client.client", "psycopg"),
        ("openreserve_client.client", "boto"),
        ("openreserve_client.client", "openreserve."),
        ("openreserve_client.cli.program", "openreserve."),
        ("openreserve_client.cli.audit", "openreserve."),
        ("openreserve_client", "http"),
    ],
)
def test_what_has_to_start_soon_does_not_load_what_it_does_not_need(
    modules: str, unwanted: str
) -> None:
    program = (
        f"import sys, {modules}; print(*(m for m in sys.modules if m.startswith('{unwanted}')))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout

    assert printed.split() == []
