"""The owner's direct connection to Postgres, for migrations and audits. RDS rotates its password.

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
    """Could not authenticate as the owner: the password could not be read from Secrets Manager."""


def connected(
    database_url: str, secret_arn: str = "", **parameters: Any
) -> psycopg.Connection[Any]:
    """A connection to the URL, with the password of the secret, if one is given.

    `parameters`: further parameters of `psycopg.connect`; they override those of the URL.

    The password is read for each connection. If it is refused and has changed since, a rotation was
    in progress: the new password is tried once.

    Raises:
        psycopg.OperationalError: Postgres refused the connection or is unreachable.
        SecretUnreadable: the password could not be read.
    """
    if not secret_arn:
        return psycopg.connect(database_url, prepare_threshold=None, **parameters)
    password = _password(secret_arn)
    try:
        return _connect(database_url, password, parameters)
    except psycopg.OperationalError:
        changed = _password(secret_arn)
        if changed == password:
            raise
    logger().info("The owner's password was rotated; connecting with the new one")
    return _connect(database_url, changed, parameters)


def _connect(
    database_url: str, password: str, parameters: Mapping[str, Any]
) -> psycopg.Connection[Any]:
    merged: dict[str, Any] = {"sslrootcert": str(certificates.RDS_GLOBAL)}
    merged |= conninfo_to_dict(database_url)
    merged |= {**parameters, "sslmode": "verify-full", "password": password}
    return psycopg.connect(prepare_threshold=None, **merged)


def _password(secret_arn: str) -> str:
    import boto3  # noqa: PLC0415 - large, and only RDS needs it
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        secret = boto3.client("secretsmanager").get_secret_value(SecretId=secret_arn)
        return str(json.loads(secret["SecretString"])["password"])
    except (BotoCoreError, ClientError, KeyError, ValueError) as failure:
        raise SecretUnreadable(type(failure).__name__) from None
