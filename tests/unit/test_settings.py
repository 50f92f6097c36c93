"""An invalid setting is rejected when a function starts, not when it is first used."""

from collections.abc import Iterator

import pytest

from openreserve.runtime.settings import WAIT_SECONDS_MAX, WAITS_MAX, settings


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("waits", "message"),
    [
        ("1," * WAITS_MAX + "1", "more than 50 waits"),
        (f"{WAIT_SECONDS_MAX},1", "adds up to more than 1036800"),
        ("soon", "invalid literal"),
        ("", "invalid literal"),
    ],
)
def test_retry_delays_beyond_the_limits_of_sqs_are_rejected(
    waits: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", waits)

    with pytest.raises(ValueError, match=message):
        settings()


@pytest.mark.parametrize("waits", ["1", ",".join("1" * WAITS_MAX), str(WAIT_SECONDS_MAX)])
def test_retry_delays_within_the_limits_of_sqs_are_accepted(
    waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", waits)

    assert settings().webhook_retry_seconds == waits
