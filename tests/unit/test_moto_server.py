"""What is changed of moto, for a runtime that stays up."""

import weakref

from moto.sqs.models import Message

from infra.local.aws import moto_server


def test_a_message_without_an_owner_is_not_kept() -> None:
    moto_server.disable_message_tracking()

    message = weakref.ref(Message("message-1", "{}"))

    assert message() is None
