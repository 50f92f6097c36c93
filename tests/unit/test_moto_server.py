"""Patches of moto for a long-running server."""

import weakref

from moto.sqs.models import Message

from infra.local.aws import moto_server


def test_an_unreferenced_message_is_not_kept_in_memory() -> None:
    moto_server.disable_message_tracking()

    message = weakref.ref(Message("message-1", "{}"))

    assert message() is None
