"""Verification of webhooks, for the services that receive them."""

import json
from collections.abc import Mapping

from openreserve_client.models import Event


class InvalidSignature(Exception):
    """The signature does not match any secret, the webhook is too old, or it has no event."""


def verify_webhook(body: bytes, headers: Mapping[str, str], *secrets: str) -> Event:
    """Verify the signature of a webhook and return its event.

    `body`: the raw bytes of the request. Pass two secrets while you rotate from one to the other.
    An event may be delivered more than once: deduplicate by its `id`.

    Raises:
        InvalidSignature: respond with 400 and ignore the webhook.
    """
    from standardwebhooks import (  # noqa: PLC0415 - only receivers of webhooks need it
        Webhook,
        WebhookVerificationError,
    )

    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
            return Event.from_json(json.loads(body))
        # For malformed headers the library raises ValueError and the like, too.
        except (WebhookVerificationError, ValueError, KeyError, TypeError):
            continue
    raise InvalidSignature
