"""The owner's connection to Postgres: direct, for migrations and audits. RDS changes its password.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html
"""

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from openreserve.runtime import certificates
from openreserve.runtime.telemetry import logger


class SecretUnreadable(Exception):
    """Nobody signed in as the owner: Secrets Manager did not say the password."""


def connected(
    database_url: str, secret_arn: str = "", **parameters: Any
) -> psycopg.Connection[Any]:
    """A connection to the URL, with the password of the secret, if there is one.

    `parameters`: further ones of `psycopg.connect`; they win over those of the URL.

    The password is read each time. One that is refused, though it has changed since it was read,
    was read in the middle of a rotation: the new one is tried, once.

    Raises:
        psycopg.OperationalError: Postgres refused, or is not there.
        SecretUnreadable: there is no password to try.
    """
    if not secret_arn:
        return psycopg.connect(database_url, prepare_threshold=None, **parameters)
    password = _password(secret_arn)
    try:
        return _signed_in(database_url, password, parameters)
    except psycopg.OperationalError:
        changed = _password(secret_arn)
        if changed == password:
            raise
    logger().info("The owner's password was changed just now; signing in with the new one")
    return _signed_in(database_url, changed, parameters)


def _signed_in(
    database_url: str, password: str, parameters: Mapping[str, Any]
) -> psycopg.Connection[Any]:
    where: dict[str, Any] = {"sslrootcert": str(certificates.RDS_GLOBAL)}
    where |= conninfo_to_dict(database_url)
    where |= {**parameters, "sslmode": "verify-full", "password": password}
    return psycopg.connect(prepare_threshold=None, **where)


def _password(secret_arn: str) -> str:
    import boto3  # noqa: PLC0415 - large, and only RDS needs it
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        secret = boto3.client("secretsmanager").get_secret_value(SecretId=secret_arn)
        return str(json.loads(secret["SecretString"])["password"])
    except (BotoCoreError, ClientError, KeyError, ValueError) as failure:
        raise SecretUnreadable(type(failure).__name__) from None
