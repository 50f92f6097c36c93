"""Patches of moto for a long-running server."""

import weakref

from moto.sqs.models import Message

from infra.local import moto_server


def test_an_unreferenced_message_is_not_kept_in_memory() -> None:
    moto_server.let_moto_forget()

    message = weakref.ref(Message("message-1", "{}"))

    assert message() is None
