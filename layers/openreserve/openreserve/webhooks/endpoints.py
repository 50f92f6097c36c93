"""The border to Secrets Manager, where endpoints are kept: each is one secret.

Its value is `{"url", "events", "secrets"}`, so that a template, the console or the API can make
one; its tag `disabled` says since when and why it gets nothing. Never loaded where stock is.
"""

import json
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openreserve.domain.errors import EndpointNotFound, ServiceUnavailable
from openreserve.domain.webhooks import ENDPOINT_ID, SECRETS_MAX, Endpoint
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


DISABLED = "disabled"
_SECRET_BYTES = 32
_VALUES_AT_A_TIME = 20
"""All that BatchGetSecretValue takes."""
_NOT_THERE = ("ResourceNotFoundException", "InvalidRequestException")
"""What Secrets Manager says of a secret that is none, and of one that is being deleted."""


def list_endpoints() -> list[Endpoint]:
    """All endpoints, by id.

    Raises:
        ServiceUnavailable: Secrets Manager did not answer.
    """
    try:
        disabled = dict(_listed())
        return sorted(
            (_endpoint(name, value, disabled[name]) for name, value in _values(list(disabled))),
            key=lambda endpoint: endpoint.endpoint_id,
        )
    except (BotoCoreError, ClientError) as failure:
        raise ServiceUnavailable from failure


def known_endpoints() -> Mapping[str, Endpoint]:
    """All endpoints by id, as they were a few seconds ago.

    Raises:
        ServiceUnavailable: Secrets Manager did not answer.
    """
    return _known(int(time.monotonic() // max(settings().webhook_cache_seconds, 1)))


def find_endpoint(endpoint_id: str) -> Endpoint:
    """The endpoint as it was saved last, whether it was disabled since or not.

    Asked for by name: a list may leave out for minutes what is new.

    Raises:
        EndpointNotFound: there is none.
        ServiceUnavailable: Secrets Manager did not answer.
    """
    if not ENDPOINT_ID.fullmatch(endpoint_id):
        raise EndpointNotFound(endpointId=endpoint_id)
    name = _name(endpoint_id)
    try:
        value = _manager().get_secret_value(SecretId=name).get("SecretString", "")
    except ClientError as failure:
        if failure.response["Error"]["Code"] in _NOT_THERE:
            raise EndpointNotFound(endpointId=endpoint_id) from None
        raise ServiceUnavailable from failure
    except BotoCoreError as failure:
        raise ServiceUnavailable from failure
    return _endpoint(name, value, disabled="")


def save(endpoint: Endpoint) -> bool:
    """Write the endpoint down, and return whether it is new. Who saves enables. A repeat is safe.

    Raises:
        ServiceUnavailable: nobody knows whether it was written.
    """
    name, value = _name(endpoint.endpoint_id), _value(endpoint)
    try:
        try:
            _manager().create_secret(Name=name, SecretString=value)
        except _manager().exceptions.ResourceExistsException:
            _manager().put_secret_value(SecretId=name, SecretString=value)
            _manager().untag_resource(SecretId=name, TagKeys=[DISABLED])
            return False
    except (BotoCoreError, ClientError) as failure:
        raise ServiceUnavailable from failure
    return True


def disable(endpoint_id: str, reason: str) -> None:
    """Deliver nothing to it any more. A repeat writes the newer reason.

    As a tag: the value is the operators', and of two writers of it one would be lost.

    Raises:
        ServiceUnavailable: nobody knows whether it was disabled.
    """
    try:
        _manager().tag_resource(
            SecretId=_name(endpoint_id), Tags=[{"Key": DISABLED, "Value": reason}]
        )
    except _manager().exceptions.ResourceNotFoundException:
        return  # somebody removed it meanwhile
    except (BotoCoreError, ClientError) as failure:
        raise ServiceUnavailable from failure
    finally:
        _known.cache_clear()


def remove(endpoint_id: str) -> None:
    """Forget the endpoint and its secrets. What is on its way to it is dropped.

    Raises:
        EndpointNotFound: there is none.
        ServiceUnavailable: nobody knows whether it was removed.
    """
    find_endpoint(endpoint_id)
    try:
        _manager().delete_secret(SecretId=_name(endpoint_id), ForceDeleteWithoutRecovery=True)
    except (BotoCoreError, ClientError) as failure:
        raise ServiceUnavailable from failure


def new_secret() -> str:
    """A secret that nobody has, in the form that receivers expect."""
    return "whsec_" + b64encode(token_bytes(_SECRET_BYTES)).decode()


@lru_cache(maxsize=1)
def _known(_moment: int) -> Mapping[str, Endpoint]:
    """Asked anew with each moment."""
    return {endpoint.endpoint_id: endpoint for endpoint in list_endpoints()}


def _listed() -> Iterator[tuple[str, str]]:
    """The name of each endpoint's secret, and why it is disabled."""
    prefix = settings().webhook_secrets_prefix
    pages = _manager().get_paginator("list_secrets")
    for page in pages.paginate(Filters=[{"Key": "name", "Values": [prefix]}]):
        for secret in page["SecretList"]:
            name = secret["Name"]
            # What is further down is not ours: its prefix only begins as this one does.
            if name.startswith(prefix) and ENDPOINT_ID.fullmatch(name, len(prefix)):
                tags = {tag["Key"]: tag["Value"] for tag in secret.get("Tags", ())}
                yield name, tags.get(DISABLED, "")


def _values(names: list[str]) -> Iterator[tuple[str, str]]:
    """What each secret says; empty, if that cannot be told now. What is gone is left out."""
    for start in range(0, len(names), _VALUES_AT_A_TIME):
        asked = names[start : start + _VALUES_AT_A_TIME]
        answer = _manager().batch_get_secret_value(SecretIdList=asked)
        found = {
            secret["Name"]: secret.get("SecretString", "") for secret in answer["SecretValues"]
        }
        failures = answer.get("Errors", ())
        gone = {each["SecretId"] for each in failures if each["ErrorCode"] in _NOT_THERE}
        yield from ((name, found.get(name, "")) for name in asked if name not in gone)


def _endpoint(name: str, value: str, disabled: str) -> Endpoint:
    """One that cannot be read has no secrets, so that deliveries to it fail, but are not lost."""
    endpoint_id = name.removeprefix(settings().webhook_secrets_prefix)
    try:
        found: dict[str, Any] = json.loads(value)
        events = found.get("events") or ()
        return Endpoint(
            endpoint_id=endpoint_id,
            url=str(found["url"]),
            events=(events,) if isinstance(events, str) else tuple(map(str, events)),
            secrets=tuple(map(str, found.get("secrets") or [found["secret"]]))[:SECRETS_MAX],
            disabled=disabled,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        logger().error("The secret of an endpoint cannot be read", extra={"name_of_it": name})
        return Endpoint(endpoint_id, url="", disabled=disabled)


def _value(endpoint: Endpoint) -> str:
    return json.dumps({"url": endpoint.url, "events": endpoint.events, "secrets": endpoint.secrets})


def _name(endpoint_id: str) -> str:
    return settings().webhook_secrets_prefix + endpoint_id


@cache
def _manager() -> "SecretsManagerClient":
    """Made with the first use. Gives up before the time of the function is up."""
    patience = Config(
        connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return boto3.client("secretsmanager", config=patience)
