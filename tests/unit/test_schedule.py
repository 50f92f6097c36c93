"""Scheduled calls: the local runtime and the samples use the event of EventBridge Scheduler."""

import re

import pytest

from infra.local.aws import scheduler
from tests.support.handlers import sample


@pytest.mark.parametrize("name", ["expire", "reconcile"])
def test_a_scheduled_call_has_the_event_of_eventbridge_scheduler(name: str) -> None:
    sent_event, sample_event = scheduler.event("ExpireFunction"), sample(name)

    assert sent_event.keys() == sample_event.keys()
    for member in ("version", "detail-type", "source", "detail"):
        assert sent_event[member] == sample_event[member], member
    for event in (sent_event, sample_event):
        assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", str(event["time"]))
