"""Webhook rules: subscriptions, retry delays, response statuses, and allowed URLs and addresses."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import chain
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve.domain.webhooks import (
    DELAY_SECONDS_MAX,
    EVENT_TYPES,
    SLOW_FOR_SECONDS,
    Endpoint,
    SlowEndpoints,
    Verdict,
    delay_seconds,
    is_public,
    url_fault,
    verdict,
)

SQS_HIDES_SECONDS_MAX = 43_200

schedules = st.lists(st.integers(0, 2 * SQS_HIDES_SECONDS_MAX), max_size=10)
chances = st.floats(0, 1)
retry_afters = st.integers(0, 1 << 30)


@given(schedules, st.data(), chances)
def test_a_retry_waits_for_the_scheduled_time_within_ten_percent(
    schedule: list[int], data: st.DataObject, chance: float
) -> None:
    attempt = data.draw(st.integers(1, len(schedule) + 1))

    wait_seconds = delay_seconds(attempt, schedule, 0, chance)

    planned = [*schedule, 0][attempt - 1]
    assert min(0.9 * planned - 0.5, DELAY_SECONDS_MAX) <= wait_seconds <= 1.1 * planned + 0.5


@given(schedules, st.data(), retry_afters, chances)
def test_a_retry_respects_retry_after_up_to_the_maximum_of_the_queue(
    schedule: list[int], data: st.DataObject, retry_after_seconds: int, chance: float
) -> None:
    attempt = data.draw(st.integers(1, len(schedule) + 1))

    wait_seconds = delay_seconds(attempt, schedule, retry_after_seconds, chance)

    assert 0 <= wait_seconds <= DELAY_SECONDS_MAX < SQS_HIDES_SECONDS_MAX
    if attempt <= len(schedule):
        assert wait_seconds >= min(retry_after_seconds, DELAY_SECONDS_MAX)


@given(schedules, st.integers(1, 10), retry_afters, chances)
def test_after_the_last_attempt_there_is_no_retry(
    schedule: list[int], more: int, retry_after_seconds: int, chance: float
) -> None:
    assert delay_seconds(len(schedule) + more, schedule, retry_after_seconds, chance) == 0


def test_retries_of_concurrent_failures_are_spread() -> None:
    waits = [delay_seconds(1, [1_000], 0, chance) for chance in (0, 0.25, 0.5, 0.75, 1)]

    assert waits == [900, 950, 1_000, 1_050, 1_100]


def test_a_2xx_is_delivered_a_410_is_gone_and_any_other_status_is_a_failure() -> None:
    meant = {status: verdict(status) for status in range(100, 600)}

    assert {status for status in meant if meant[status] == Verdict.DELIVERED} == {*range(200, 300)}
    assert {status for status in meant if meant[status] == Verdict.GONE} == {410}
    assert {*meant.values()} == {*Verdict}


def test_an_endpoint_without_types_receives_all_events_and_a_disabled_one_none() -> None:
    url = "https://shop.example.com/"
    for event_type in EVENT_TYPES:
        assert Endpoint("all", url).wants(event_type)
        assert not Endpoint("off", url, disabled="it answered 410").wants(event_type)
        assert Endpoint("some", url, ("STOCK_DEPLETED",)).wants(event_type) == (
            event_type == "STOCK_DEPLETED"
        )


EXECUTIONS = 50
"""The default of WebhookConcurrency."""
TIMEOUT_SECONDS = 15


def test_an_endpoint_that_never_answers_cannot_keep_all_executions_busy() -> None:
    """An hour of ten events a second. Without a limit, 150 executions would wait."""
    chances = Random(4)
    memories = [SlowEndpoints() for _ in range(EXECUTIONS)]
    busy_until = [0.0] * EXECUTIONS
    busy: list[int] = []
    waited = 0
    for tenth in range(36_000):
        now = tenth / 10
        idle = [number for number in range(EXECUTIONS) if busy_until[number] <= now]
        busy.append(EXECUTIONS - len(idle))
        for number in chances.sample(idle, min(1, len(idle))):
            if not memories[number].is_slow("shop", now):
                waited += 1
                busy_until[number] = now + TIMEOUT_SECONDS
                memories[number].note("shop", now + TIMEOUT_SECONDS, chances.random())

    after_the_first = busy[10 * 2 * TIMEOUT_SECONDS :]
    assert max(after_the_first) <= EXECUTIONS / 5
    assert sum(after_the_first) / len(after_the_first) <= EXECUTIONS / 40
    assert waited <= EXECUTIONS * (1 + 3_600 / SLOW_FOR_SECONDS)


def test_the_repr_of_an_endpoint_hides_its_secrets() -> None:
    assert "whsec_" not in repr(Endpoint("shop", "https://shop.example.com/", (), ("whsec_MfKQ",)))


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com",
        "https://shop.example.com/events?shop=1&x=%20y",
        "https://shop.example.com:8443/a;b",
        "HTTPS://SHOP.EXAMPLE.COM/",
        "https://[2606:4700::1111]/",
        "https://xn--kse-qla.example/",
    ],
)
def test_deliveries_go_to_https_urls(url: str) -> None:
    assert url_fault(url, development=False) == ""
    assert url_fault(url, development=True) == ""


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://shop.example.com/", "must begin with https://"),
        ("ftp://shop.example.com/", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("//shop.example.com/", "must begin with https://"),
        ("shop.example.com", "must begin with https://"),
        ("", "must begin with https://"),
        (" https://shop.example.com/", "must be an absolute URL in ASCII, with a host"),
        ("https://", "must be an absolute URL in ASCII, with a host"),
        ("https:///events", "must be an absolute URL in ASCII, with a host"),
        ("https://shop.example.com/a b", "must be an absolute URL in ASCII, with a host"),
        ("https://shop.example.com/\r\nhost: x", "must be an absolute URL in ASCII, with a host"),
        ("https://käse.example/", "must be an absolute URL in ASCII, with a host"),
        ("https://127.0.0.1\uff0eexample/", "must be an absolute URL in ASCII, with a host"),
        ("https://me@shop.example.com/", "must have neither a user nor a fragment"),
        ("https://me:secret@shop.example.com/", "must have neither a user nor a fragment"),
        ("https://:secret@shop.example.com/", "must have neither a user nor a fragment"),
        ("https://good.example\\@127.0.0.1/", "must have neither a user nor a fragment"),
        ("https://shop.example.com/#part", "must have neither a user nor a fragment"),
        ("https://shop.example.com:https/", "is not a URL"),
        ("https://shop.example.com:65536/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
    ],
)
def test_deliveries_to_a_forbidden_url_are_refused_with_the_reason(url: str, fault: str) -> None:
    assert url_fault(url, development=False) == fault


def test_in_development_http_is_also_allowed() -> None:
    assert url_fault("http://localhost:9000/events", development=True) == ""
    assert url_fault("ftp://localhost/", development=True) == (
        "must begin with https:// or http://"
    )
    assert url_fault("http://me@localhost/", development=True) == (
        "must have neither a user nor a fragment"
    )


NOT_PUBLIC = {
    "this network": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104 - nothing is bound to it
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
    "link-local": ["169.254.0.1", "fe80::1", "fe80::1%eth0"],
    "site-local": ["fec0::1"],
    "metadata": ["169.254.169.254", "169.254.170.2", "169.254.100.1", "fd00:ec2::254"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:1.1.1.1"],
    "compatible": ["::127.0.0.1", "::10.0.0.1"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::101:101", "64:ff9b:1::a00:1"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "192.88.99.1"],
    "Teredo": ["2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "protocols": ["192.0.0.1", "192.0.0.8", "192.0.0.170", "2001:2::1", "2001:20::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1", "100::1"],
    "segment routing": ["5f00::1"],
}


@pytest.mark.parametrize("address", [*chain.from_iterable(NOT_PUBLIC.values())])
def test_a_delivery_to_a_non_public_address_is_refused(address: str) -> None:
    assert not is_public(address)


PUBLIC = {
    "IPv4": ["1.1.1.1", "8.8.8.8", "93.184.215.14", "223.255.255.254"],
    "beside what is not": ["172.32.0.1", "100.128.0.1", "192.0.1.1", "192.88.98.1"],
    "IPv6": ["2606:4700::1111", "2a00:1450:4001:82a::200e", "2001:4860:4860::8888", "2003::1"],
}


@pytest.mark.parametrize("address", [*chain.from_iterable(PUBLIC.values())])
def test_deliveries_go_to_public_addresses(address: str) -> None:
    assert is_public(address)


private = st.sampled_from(
    (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16"),
        *("100.64.0.0/10", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "192.0.0.0/24"),
    )
).flatmap(lambda text: st.ip_addresses(v=4, network=IPv4Network(text)))
within = st.sampled_from(
    [  # the prefix before the IPv4 address, and the number of bits after it
        ("::ffff:0:0", 0),
        ("::", 0),
        ("::ffff:0:0:0", 0),
        ("64:ff9b::", 0),
        ("64:ff9b:1::", 0),
        ("2002::", 80),
    ]
)


@given(private, within)
def test_an_embedded_private_address_stays_private(
    address: IPv4Address, place: tuple[str, int]
) -> None:
    prefix, shift = place
    disguised = IPv6Address(int(IPv6Address(prefix)) | int(address) << shift)

    assert not is_public(str(address))
    assert not is_public(str(disguised))
    assert not is_public(disguised.exploded)
