"""The OpenAPI document: generated from the code, and complete."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from infra import openapi
from infra.openapi.operations import operations
from infra.openapi.schemas import references
from openreserve.domain.webhooks import EVENT_TYPES
from openreserve.http.problems import RETRY_AFTER_SECONDS, STATUSES, UNHANDLED
from openreserve.runtime.settings import Settings
from tests.support import contract

DOCUMENT = contract.document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = dict(contract.operations())
CODES_WITHOUT_OPERATION = {"method_not_allowed", "route_not_found"}
GATEWAY_STATUSES = {"401", "403", "429"}


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every object within a part of the document, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, part in value.items():
            yield from parts(part, f"{path}/{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from parts(part, f"{path}/{index}")


def codes_of(operation: Any) -> dict[str, set[str]]:
    """The error codes that an operation documents, by status."""
    codes: dict[str, set[str]] = {}
    for status, response in operation["responses"].items():
        media = contract.resolved(response).get("content", {}).get("application/problem+json", {})
        for target in references(media):
            schema = contract.resolved({"$ref": target})
            assert str(schema["properties"]["status"]["const"]) == status
            codes.setdefault(status, set()).add(schema["properties"]["code"]["const"])
    return codes


def test_the_document_is_valid_and_up_to_date_with_the_code() -> None:
    validate(DOCUMENT)
    assert json.loads(openapi.FILE.read_text()) == DOCUMENT, "run make openapi"


def test_no_schema_has_a_default_of_null_and_no_body_has_a_default() -> None:
    """openapi-typescript makes a field with a default mandatory."""
    defaults = {path: part["default"] for path, part in parts(DOCUMENT) if "default" in part}

    assert None not in defaults.values()
    assert [path for path in defaults if "/components/schemas/" in path] == []


def test_no_response_allows_null_except_the_version_of_a_missing_resource() -> None:
    bodies = {"ReserveResource", "ReserveItems", "ResendBody"}
    nullable = {
        path.split("/")[1]
        for path, part in parts(SCHEMAS)
        if part.get("type") == "null" or "null" in listed(part.get("type"))
    }

    assert nullable - bodies == {"VersionMismatchProblem"}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_every_operation_documents_exactly_its_error_codes() -> None:
    for operation in operations():
        expected: dict[str, set[str]] = {str(UNHANDLED[0]): {UNHANDLED[1]}}
        for refusal in openapi.errors_of(operation):
            status, code = STATUSES[refusal]
            expected.setdefault(str(status), set()).add(code)
        for route in operation.routes:
            assert codes_of(OPERATIONS[route.key]) == expected, route


def test_every_error_code_is_documented_in_an_operation_or_the_description() -> None:
    documented = {
        code
        for operation in OPERATIONS.values()
        for codes in codes_of(operation).values()
        for code in codes
    }
    for _, code in [*STATUSES.values(), UNHANDLED]:
        assert (code in documented) != (code in CODES_WITHOUT_OPERATION), code
    for code in CODES_WITHOUT_OPERATION:
        assert f"`{code}`" in DOCUMENT["info"]["description"]


def test_only_transient_errors_document_retry_after() -> None:
    retried = {STATUSES[refusal][1] for refusal in RETRY_AFTER_SECONDS}
    for operation in OPERATIONS.values():
        for status, codes in codes_of(operation).items():
            headers = contract.resolved(operation["responses"][status]).get("headers", {})
            assert ("Retry-After" in headers) == bool(codes & retried), status


def test_every_response_of_a_function_has_a_request_id() -> None:
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            headers = contract.resolved(response).get("headers", {})
            assert ("x-request-id" in headers) == (status not in GATEWAY_STATUSES)


def test_every_component_is_used() -> None:
    used = set(references(DOCUMENT))
    known = {
        f"#/components/{kind}/{name}"
        for kind, members in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in members
    }

    assert known == used


def test_every_response_schema_has_a_name() -> None:
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            for media in contract.resolved(response).get("content", {}).values():
                schema = media["schema"]
                assert [*schema] in (["$ref"], ["oneOf"]), (operation["operationId"], status)
                assert all([*part] == ["$ref"] for part in schema.get("oneOf", ()))


def test_the_refusals_of_the_gateway_share_one_schema() -> None:
    for operation in OPERATIONS.values():
        refusals = {operation["responses"].get(status, {}).get("$ref") for status in ("401", "403")}
        assert refusals in (
            {None},
            {"#/components/responses/Unauthorized", "#/components/responses/Forbidden"},
        )


def test_the_limits_of_the_document_match_the_settings() -> None:
    one, several = SCHEMAS["ReserveResource"]["properties"], SCHEMAS["ReserveItems"]["properties"]
    ttl_seconds = one["ttlSeconds"]["anyOf"][0]
    pages = [
        parameter["schema"]
        for operation in OPERATIONS.values()
        for parameter in operation["parameters"]
        if parameter["name"] == "limit"
    ]

    assert (ttl_seconds["minimum"], ttl_seconds["maximum"]) == (1, Settings.ttl_seconds_max)
    assert (one["quantity"]["minimum"], one["quantity"]["maximum"]) == (1, Settings.quantity_max)
    assert (several["items"]["minItems"], several["items"]["maxItems"]) == (1, Settings.items_max)
    rows = SCHEMAS["BatchBody"]["properties"]["resources"]
    assert (rows["minItems"], rows["maxItems"]) == (1, Settings.batch_rows_max)
    assert len(pages) == 4
    for limit in pages:
        assert (limit["minimum"], limit["maximum"]) == (1, Settings.page_size_max)


def test_the_two_forms_of_reserve_are_two_schemas() -> None:
    assert SCHEMAS["ReserveBody"]["oneOf"] == [
        {"$ref": "#/components/schemas/ReserveResource"},
        {"$ref": "#/components/schemas/ReserveItems"},
    ]
    assert SCHEMAS["ReserveResource"]["required"] == ["resourceId", "quantity"]
    assert SCHEMAS["ReserveItems"]["required"] == ["items"]


@pytest.mark.parametrize(
    "name",
    ["EventType", "HealthStatus", "IfExpired", "PostgresStatus", "RedisStatus", "RowOutcome"],
)
def test_a_string_with_fixed_values_is_a_named_enum(name: str) -> None:
    assert SCHEMAS[name]["type"] == "string"
    assert len(SCHEMAS[name]["enum"]) >= 2


def test_every_operation_has_a_summary_and_a_unique_id() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(names)) == len(names)
    for operation in OPERATIONS.values():
        assert re.fullmatch("[a-z][A-Za-z]+", operation["operationId"])
        assert operation["summary"]
        assert operation["description"].endswith(".")
        assert set(operation["tags"]) <= set(openapi.TAGS)
    received = [methods["post"] for methods in DOCUMENT["webhooks"].values()]
    called = {tag for operation in OPERATIONS.values() for tag in operation["tags"]}
    delivered = {tag for operation in received for tag in operation["tags"]}
    assert called | delivered == {tag["name"] for tag in DOCUMENT["tags"]}
    assert not called & delivered, "openapi-generator makes one file of a tag, and loses the other"


def test_a_64_bit_integer_has_the_format_int64() -> None:
    """Generated clients for Java, C# and Go use 32 bits for an integer without a format."""
    for path, part in parts(SCHEMAS):
        if part.get("type") == "integer" and part.get("maximum", 0) >= 2**31:
            assert part["format"] == "int64", path
    for name in ("totalStock", "availableStock", "heldStock", "committedStock", "version"):
        assert SCHEMAS["ResourceView"]["properties"][name]["format"] == "int64"


def test_each_event_type_has_a_webhook_with_standard_webhooks_headers() -> None:
    assert set(DOCUMENT["webhooks"]) == {*EVENT_TYPES, "PING"}
    for kind, methods in DOCUMENT["webhooks"].items():
        headers = [parameter["name"] for parameter in methods["post"]["parameters"]]
        media = methods["post"]["requestBody"]["content"]["application/json"]
        assert headers == ["webhook-id", "webhook-timestamp", "webhook-signature"]
        assert media["example"]["type"] == kind
        contract.strict(media["schema"]).validate(media["example"])


def test_examples_match_their_schemas() -> None:
    for route, operation in OPERATIONS.items():
        for parameter in operation["parameters"]:
            if "example" in parameter:
                contract.strict(parameter["schema"]).validate(parameter["example"])
        contents = [contract.resolved(response) for response in operation["responses"].values()]
        for described in [operation.get("requestBody", {}), *contents]:
            for media in described.get("content", {}).values():
                for name, example in media.get("examples", {}).items():
                    errors = list(contract.strict(media["schema"]).iter_errors(example["value"]))
                    assert not errors, (route, name)
