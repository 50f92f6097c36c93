"""Typed settings from environment variables, read once, with units in the names.

No other module reads settings from the environment.
"""

import os
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

WAITS_MAX = 50
"""Half of the maxReceiveCount after which SQS moves a message to the dead-letter queue."""
WAIT_SECONDS_MAX = 12 * 86_400
"""The sum of all waits. SQS keeps a message for 14 days, and each wait may be 10% longer."""


@dataclass(frozen=True)
class Settings:
    """Each field is read from the environment variable of its name in upper case."""

    database_url: str = field(default="", repr=False)
    """URL of Postgres for the functions, as user openreserve_app. On AWS: of RDS Proxy."""
    database_auth: str = "url"
    """Authentication to Postgres: `url` (credentials in the URL) or `iam` (IAM token)."""
    migration_url: str = field(default="", repr=False)
    """URL of Postgres for migrations: a direct connection as the owner of the schema."""
    migration_secret_arn: str = ""
    """ARN of the secret with the owner's password, managed by RDS. Empty: it is in the URL."""
    redis_url: str = field(default="", repr=False)
    """URL of Redis or Valkey. Empty: no cache, all requests use Postgres."""
    redis_auth: str = "url"
    """Authentication to Redis: `url` (credentials in the URL) or `iam` (IAM token)."""
    redis_cache_name: str = ""
    """Name of the ElastiCache cache, for IAM tokens."""
    redis_resource_type: str = ""
    """`ServerlessCache` for ElastiCache Serverless; empty for node-based caches."""
    redis_key_prefix: str = "openreserve"
    """Prefix of all Redis keys. Change it after a restore of Postgres, to invalidate the cache."""
    health_cache_ms: int = 1_000
    """How long an environment caches its health status."""
    redis_timeout_ms: int = 50
    """How long a request waits for Redis before it continues without the cache."""
    redis_connect_timeout_ms: int = 50
    """Timeout of each step of a connection to Redis: TCP, TLS, authentication."""
    redis_pause_ms_min: int = 250
    """How long Redis is not used after its first failure. Each further failure doubles it."""
    redis_pause_ms_max: int = 10_000
    """The maximum of this pause, hence of the delay until a recovered Redis is used again."""
    sold_out_ms_max: int = 1_000
    """How long a sold-out marker in Redis may refuse requests without a query to Postgres."""
    replay_seconds: int = 3_600
    """How long Redis keeps the response for an Idempotency-Key. Postgres keeps it longer."""
    items_max: int = 50
    """Maximum number of items in one reservation."""
    batch_rows_max: int = 500
    """Maximum number of resources in one batch."""
    quantity_max: int = 1_000_000
    """Maximum quantity in one line of a reservation."""
    ttl_seconds_default: int = 300
    """Duration of a hold if the request has no ttlSeconds."""
    ttl_seconds_max: int = 86_400
    """Maximum duration of a hold."""
    body_bytes_max: int = 262_144
    """Maximum size of a request body."""
    page_size_max: int = 200
    """Maximum number of rows in one page of a list."""
    reclaim_batch_size: int = 100
    """Maximum number of expired holds that a reserve closes in one transaction."""
    reservation_events: int = 0
    """1: write events for changes of reservations too, not only for changes of stock."""
    expire_stay_seconds: int = 60
    """How long each run of the prompt expiry lasts. 0: the prompt expiry is off."""
    expire_batch_size: int = 500
    """Maximum number of expired holds that are closed in one transaction."""
    deadline_horizon_seconds: int = 150
    """How far ahead deadlines are copied from Postgres to Redis, each minute."""
    key_retention_hours: int = 48
    """How long Idempotency-Keys are kept; at least 24 hours."""
    reservation_retention_days: int = 30
    """How long released, expired and cancelled reservations are kept. Committed ones stay."""
    event_retention_days: int = 30
    """How long published events are kept."""
    audit_batch_size: int = 500
    """Number of resources whose counters are audited each minute."""
    webhook_queue_url: str = ""
    """URL of the SQS queue for events. Empty: no webhooks; events can still be listed."""
    webhook_retry_queue_url: str = ""
    """URL of the SQS queue for retries and for deliveries to slow endpoints."""
    dead_letter_queue_url: str = ""
    """URL of the SQS dead-letter queue."""
    webhook_secrets_prefix: str = "openreserve/webhooks/"
    """Prefix of the names of the secrets that store endpoints."""
    webhook_cache_seconds: int = 10
    """How long endpoints are cached, hence the maximum delay of a change of an endpoint."""
    webhook_timeout_seconds: int = 15
    """Timeout of one delivery."""
    webhook_retry_seconds: str = "5,300,1800,7200,18000,36000,43200,43200,43200"
    """Waits between delivery attempts. After the last attempt the dead-letter queue follows."""
    webhook_ports: str = "443"
    """Ports that deliveries may use, separated by commas."""
    webhook_development: int = 0
    """1: deliveries may use http and any address, including the developer's machine."""
    migrate_function_name: str = ""
    """Name of the migration function, for the hook that runs before traffic shifts."""

    @property
    def webhook_schedule_seconds(self) -> tuple[int, ...]:
        """The waits between delivery attempts."""
        return tuple(map(int, self.webhook_retry_seconds.split(",")))

    @property
    def ttl_seconds_usual(self) -> int:
        """The duration of a hold without ttlSeconds: the default, at most the maximum."""
        return min(self.ttl_seconds_default, self.ttl_seconds_max)


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        ValueError: a variable has an invalid value.
    """
    values: dict[str, Any] = {
        setting.name: int(text) if setting.type is int else text
        for setting in fields(Settings)
        if (text := os.environ.get(setting.name.upper())) is not None
    }
    for name in ("database_auth", "redis_auth"):
        if values.get(name, "url") not in ("url", "iam"):
            raise ValueError(f"{name.upper()} is neither url nor iam")
    read = Settings(**values)
    if not 0 < len(read.webhook_schedule_seconds) <= WAITS_MAX:
        raise ValueError(f"WEBHOOK_RETRY_SECONDS has more than {WAITS_MAX} waits")
    if sum(read.webhook_schedule_seconds) > WAIT_SECONDS_MAX:
        raise ValueError(f"WEBHOOK_RETRY_SECONDS adds up to more than {WAIT_SECONDS_MAX}")
    if read.redis_auth == "iam" and read.redis_url and not read.redis_url.startswith("rediss:"):
        raise ValueError("REDIS_AUTH=iam needs a REDIS_URL with TLS: rediss://")
    return read
