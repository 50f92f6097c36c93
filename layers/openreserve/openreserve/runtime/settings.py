"""The environment, read once, typed, with units in the names. The only place that reads it."""

import os
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

WAITS_MAX = 50
"""Half of the receipts after which SQS itself makes a message a dead letter."""
WAIT_SECONDS_MAX = 12 * 86_400
"""All waits together. SQS keeps a message for 14 days, and each wait may be a tenth longer."""


@dataclass(frozen=True)
class Settings:
    """Each field is the environment variable of its name in capitals; `template.yaml` sets them."""

    database_url: str = field(default="", repr=False)
    """Where Postgres is, as user openreserve_app. On AWS: RDS Proxy."""
    database_auth: str = "url"
    """How the functions sign in to Postgres: `url`: as the URL says, or `iam`: with a token."""
    migration_url: str = field(default="", repr=False)
    """Where Postgres is for the migrations: directly, as the owner of the schema."""
    migration_secret_arn: str = ""
    """The secret that has the owner's password, as RDS keeps it. Empty: it is in the URL."""
    redis_url: str = field(default="", repr=False)
    """Where Redis or Valkey is. Empty: there is none, everything goes to Postgres."""
    redis_auth: str = "url"
    """How the functions sign in to Redis: `url`: as the URL says, or `iam`: with a token."""
    redis_cache_name: str = ""
    """The name of the cache on ElastiCache, which tokens are signed for."""
    redis_resource_type: str = ""
    """`ServerlessCache` for a cache of ElastiCache Serverless; empty for nodes."""
    redis_key_prefix: str = "openreserve"
    """How all keys begin. A restore of Postgres makes it another one: what Redis knew is void."""
    health_cache_ms: int = 1_000
    """How long an environment repeats what it said of its health, before it asks the servers."""
    redis_timeout_ms: int = 50
    """How long a request waits for Redis before it goes on without."""
    redis_connect_timeout_ms: int = 50
    """How long each step may take by which a connection to Redis is made: TLS, signing in."""
    redis_pause_ms_min: int = 250
    """How long Redis is left alone after it failed to answer in time; then twice that."""
    redis_pause_ms_max: int = 10_000
    """The longest that Redis is left alone: so late it may be noticed that it is back."""
    sold_out_ms_max: int = 1_000
    """How long a resource may be refused without a look at Postgres."""
    replay_seconds: int = 3_600
    """How long Redis keeps an answer for the same key. Postgres keeps it longer."""
    items_max: int = 50
    """Items in one reservation."""
    batch_rows_max: int = 500
    """Resources in one batch."""
    quantity_max: int = 1_000_000
    """Units in one line of a reservation."""
    ttl_seconds_default: int = 300
    """How long a hold lasts when the caller does not say."""
    ttl_seconds_max: int = 86_400
    """How long a hold may last."""
    body_bytes_max: int = 262_144
    """The size of a request's body."""
    page_size_max: int = 200
    """Rows in one page of a list."""
    reclaim_batch_size: int = 100
    """Expired holds that one reserve closes in one transaction."""
    reservation_events: int = 0
    """1: each change of a reservation is an event, not only those of the stock."""
    expire_stay_seconds: int = 60
    """How long the prompt expiry stays each time it is called. 0: there is none."""
    expire_batch_size: int = 500
    """Expired holds that are closed in one transaction."""
    deadline_horizon_seconds: int = 150
    """How far ahead the deadlines in Redis are written anew from Postgres, each minute."""
    key_retention_hours: int = 48
    """How long a key is remembered; never less than 24 hours."""
    reservation_retention_days: int = 30
    """How long a reservation can be read whose stock was returned. Committed ones are kept."""
    event_retention_days: int = 30
    """How long an event can be pulled."""
    audit_batch_size: int = 500
    """Resources whose books are checked each minute, in turn."""
    webhook_queue_url: str = ""
    """Where events go, to be delivered. Empty: nowhere; they can be pulled."""
    webhook_retry_queue_url: str = ""
    """Where deliveries wait that failed once, and those to endpoints that answer slowly."""
    dead_letter_queue_url: str = ""
    """Where the messages are that were given up."""
    webhook_secrets_prefix: str = "openreserve/webhooks/"
    """How the names of the secrets begin that endpoints are kept in."""
    webhook_cache_seconds: int = 10
    """How long endpoints are remembered: so late may a change of one be noticed."""
    webhook_timeout_seconds: int = 15
    """How long an endpoint may take to answer."""
    webhook_retry_seconds: str = "5,300,1800,7200,18000,36000,43200,43200,43200"
    """The waits between attempts to deliver. One attempt more than waits, then it is given up."""
    webhook_ports: str = "443"
    """The ports that deliveries may go to."""
    webhook_development: int = 0
    """1: deliveries may go to http and to any address, as a developer's own machine."""
    migrate_function_name: str = ""
    """Which function brings the schema up to date, for the one that lets deployments go on."""

    @property
    def webhook_schedule_seconds(self) -> tuple[int, ...]:
        """The waits between attempts to deliver."""
        return tuple(map(int, self.webhook_retry_seconds.split(",")))

    @property
    def ttl_seconds_usual(self) -> int:
        """How long a hold lasts when the caller does not say: the default, as far as allowed."""
        return min(self.ttl_seconds_default, self.ttl_seconds_max)


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        ValueError: a number is not one, or a way to sign in is none.
    """
    found: dict[str, Any] = {
        known.name: int(text) if known.type is int else text
        for known in fields(Settings)
        if (text := os.environ.get(known.name.upper())) is not None
    }
    for name in ("database_auth", "redis_auth"):
        if found.get(name, "url") not in ("url", "iam"):
            raise ValueError(f"{name.upper()} is neither url nor iam")
    told = Settings(**found)
    if not 0 < len(told.webhook_schedule_seconds) <= WAITS_MAX:
        raise ValueError(f"WEBHOOK_RETRY_SECONDS has more than {WAITS_MAX} waits")
    if sum(told.webhook_schedule_seconds) > WAIT_SECONDS_MAX:
        raise ValueError(f"WEBHOOK_RETRY_SECONDS adds up to more than {WAIT_SECONDS_MAX}")
    if told.redis_auth == "iam" and told.redis_url and not told.redis_url.startswith("rediss:"):
        raise ValueError("REDIS_AUTH=iam needs a REDIS_URL with TLS: rediss://")
    return told
