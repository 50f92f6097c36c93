"""The client for Secrets Manager, which stores the webhook endpoints: one secret each.

The value is `{"url", "events", "secrets"}`, so that a template, the console or the API can create
one. The tag `disabled` has the time and the reason. Must not be imported by the stock functions.
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
_VALUES_BATCH_SIZE = 20
"""The limit of BatchGetSecretValue."""
_NOT_FOUND = ("ResourceNotFoundException", "InvalidRequestException")
"""The error codes for a secret that does not exist, and for one that is being deleted."""


def list_endpoints() -> list[Endpoint]:
    """All endpoints, by id.

    Raises:
        ServiceUnavailable: Secrets Manager failed.
    """
    try:
        disabled = dict(_listed())
        return sorted(
            (_endpoint(name, value, disabled[name]) for name, value in _values(list(disabled))),
            key=lambda endpoint: endpoint.endpoint_id,
        )
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable from error


def known_endpoints() -> Mapping[str, Endpoint]:
    """All endpoints by id, cached for WEBHOOK_CACHE_SECONDS.

    Raises:
        ServiceUnavailable: Secrets Manager failed.
    """
    return _known(int(time.monotonic() // max(settings().webhook_cache_seconds, 1)))


def find_endpoint(endpoint_id: str) -> Endpoint:
    """The endpoint as last saved, without its `disabled`.

    Read by name, because a list may lack a new secret for minutes.

    Raises:
        EndpointNotFound: no endpoint has this id.
        ServiceUnavailable: Secrets Manager failed.
    """
    if not ENDPOINT_ID.fullmatch(endpoint_id):
        raise EndpointNotFound(endpointId=endpoint_id)
    name = _name(endpoint_id)
    try:
        value = _manager().get_secret_value(SecretId=name).get("SecretString", "")
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_FOUND:
            raise EndpointNotFound(endpointId=endpoint_id) from None
        raise ServiceUnavailable from error
    except BotoCoreError as error:
        raise ServiceUnavailable from error
    return _endpoint(name, value, disabled="")


def save(endpoint: Endpoint) -> bool:
    """Create or replace the endpoint and enable it; whether it is new. A repeat is safe.

    Raises:
        ServiceUnavailable: it is unknown whether it was written.
    """
    name, value = _name(endpoint.endpoint_id), _value(endpoint)
    try:
        try:
            _manager().create_secret(Name=name, SecretString=value)
        except _manager().exceptions.ResourceExistsException:
            _manager().put_secret_value(SecretId=name, SecretString=value)
            _manager().untag_resource(SecretId=name, TagKeys=[DISABLED])
            return False
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable from error
    return True


def disable(endpoint_id: str, reason: str) -> None:
    """Stop deliveries to the endpoint. A repeat replaces the reason.

    As a tag, because operators edit the value, and concurrent writes of it would lose one.

    Raises:
        ServiceUnavailable: it is unknown whether it was disabled.
    """
    try:
        _manager().tag_resource(
            SecretId=_name(endpoint_id), Tags=[{"Key": DISABLED, "Value": reason}]
        )
    except _manager().exceptions.ResourceNotFoundException:
        return  # it was removed in the meantime
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable from error
    finally:
        _known.cache_clear()


def remove(endpoint_id: str) -> None:
    """Delete the endpoint and its secrets. Pending deliveries to it are dropped.

    Raises:
        EndpointNotFound: no endpoint has this id.
        ServiceUnavailable: it is unknown whether it was removed.
    """
    find_endpoint(endpoint_id)
    try:
        _manager().delete_secret(SecretId=_name(endpoint_id), ForceDeleteWithoutRecovery=True)
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable from error


def new_secret() -> str:
    """A new random signing secret, in the format of Standard Webhooks."""
    return "whsec_" + b64encode(token_bytes(_SECRET_BYTES)).decode()


@lru_cache(maxsize=1)
def _known(_moment: int) -> Mapping[str, Endpoint]:
    """The cache of the latest moment."""
    return {endpoint.endpoint_id: endpoint for endpoint in list_endpoints()}


def _listed() -> Iterator[tuple[str, str]]:
    """The name of each endpoint's secret, and why it is disabled."""
    prefix = settings().webhook_secrets_prefix
    pages = _manager().get_paginator("list_secrets")
    for page in pages.paginate(Filters=[{"Key": "name", "Values": [prefix]}]):
        for secret in page["SecretList"]:
            name = secret["Name"]
            # A name with a further path segment belongs to another prefix.
            if name.startswith(prefix) and ENDPOINT_ID.fullmatch(name, len(prefix)):
                tags = {tag["Key"]: tag["Value"] for tag in secret.get("Tags", ())}
                yield name, tags.get(DISABLED, "")


def _values(names: list[str]) -> Iterator[tuple[str, str]]:
    """The value of each secret; empty if it cannot be read now. Deleted secrets are left out."""
    for start in range(0, len(names), _VALUES_BATCH_SIZE):
        batch = names[start : start + _VALUES_BATCH_SIZE]
        response = _manager().batch_get_secret_value(SecretIdList=batch)
        values = {
            secret["Name"]: secret.get("SecretString", "") for secret in response["SecretValues"]
        }
        errors = response.get("Errors", ())
        deleted = {error["SecretId"] for error in errors if error["ErrorCode"] in _NOT_FOUND}
        yield from ((name, values.get(name, "")) for name in batch if name not in deleted)


def _endpoint(name: str, value: str, disabled: str) -> Endpoint:
    """An unreadable endpoint gets no secrets, so that deliveries to it fail and are retried."""
    endpoint_id = name.removeprefix(settings().webhook_secrets_prefix)
    try:
        document: dict[str, Any] = json.loads(value)
        events = document.get("events") or ()
        return Endpoint(
            endpoint_id=endpoint_id,
            url=str(document["url"]),
            events=(events,) if isinstance(events, str) else tuple(map(str, events)),
            secrets=tuple(map(str, document.get("secrets") or [document["secret"]]))[:SECRETS_MAX],
            disabled=disabled,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        logger().error("The secret of an endpoint is invalid", extra={"secretName": name})
        return Endpoint(endpoint_id, url="", disabled=disabled)


def _value(endpoint: Endpoint) -> str:
    return json.dumps({"url": endpoint.url, "events": endpoint.events, "secrets": endpoint.secrets})


def _name(endpoint_id: str) -> str:
    return settings().webhook_secrets_prefix + endpoint_id


@cache
def _manager() -> "SecretsManagerClient":
    """Created at the first use. Its timeouts are shorter than that of the function."""
    config = Config(
        connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return boto3.client("secretsmanager", config=config)
