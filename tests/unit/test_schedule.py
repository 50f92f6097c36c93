"""Scheduled calls: the runtime sends what EventBridge Scheduler sends, and so do the samples."""

import re

import pytest

from infra.local import schedule
from tests.support.handlers import sample


@pytest.mark.parametrize("name", ["expire", "reconcile"])
def test_a_scheduled_call_has_the_event_of_eventbridge_scheduler(name: str) -> None:
    ours, theirs = schedule.event("ExpireFunction"), sample(name)

    assert ours.keys() == theirs.keys()
    for member in ("version", "detail-type", "source", "detail"):
        assert ours[member] == theirs[member], member
    for event in (ours, theirs):
        assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", str(event["time"]))
