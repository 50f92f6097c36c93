"""Webhooks, on the side of whoever receives them."""

import json
from collections.abc import Mapping

from openreserve.client import answers
from openreserve.client.answers import Event


class NotGenuine(Exception):
    """The webhook was not believed: it is not signed with this secret, too old, or no event."""


def verify_webhook(body: bytes, headers: Mapping[str, str], *secrets: str) -> Event:
    """The event in a webhook, once its signature has been checked against any of the secrets.

    `body`: as it came in, byte for byte. Two secrets are for a change from one to the other.
    The same event may come more than once: its `id` tells.

    Raises:
        NotGenuine: answer 400, and do nothing.
    """
    from standardwebhooks import Webhook, WebhookVerificationError  # noqa: PLC0415 - few need it

    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
            return answers.event(json.loads(body))
        # The library lets through what a header that is no signature makes Python say.
        except (WebhookVerificationError, ValueError, KeyError, TypeError):
            continue
    raise NotGenuine
