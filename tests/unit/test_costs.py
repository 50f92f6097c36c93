"""The costs in the docs are computed from prices with a source and a date."""

import re
import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from infra.costs.__main__ import (
    ASSUMED,
    CALLS,
    DELIVERIES,
    HOURS,
    PROD,
    ROUND_TRIPS,
    Costs,
    tables,
)

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/explanation/costs.md").read_text()
COSTS = Costs.of_files()


def test_the_tables_in_the_docs_are_up_to_date() -> None:
    (between,) = re.findall(r"<!-- tables -->\n(.*)\n<!-- end -->", DOCUMENT, re.DOTALL)

    assert between.strip() == tables(COSTS), "run python -m infra.costs --write"


def test_the_rounded_figures_in_the_guide_match_the_tables() -> None:
    guide = (ROOT / "docs/how-to/deploy.md").read_text()
    idle = sum(usd for _, _, usd in COSTS.idle())
    million = sum(usd for _, usd in COSTS.million_of(CALLS["reserved and committed"]))

    assert f"about {round(idle, -1):.0f} USD a month" in guide
    prod = sum(usd for _, _, usd in replace(COSTS, assumed=PROD).idle())
    assert f"{round(prod, -2):.0f} for `prod`" in guide
    assert f"{million:.0f} USD for a million reservations" in guide


def test_every_price_has_a_source_and_a_date() -> None:
    for name, price in COSTS.prices.items():
        assert price.keys() == {"usd", "unit", "source", "read"}, name
        assert price["usd"] > 0
        assert isinstance(price["read"], date)
        assert len(price["source"]) > 10


def test_every_price_is_used() -> None:
    source = (ROOT / "infra/costs/__main__.py").read_text()

    for name in COSTS.prices:
        assert f'"{name}"' in source, name


def test_a_function_of_512_mb_takes_three_and_a_half_times_the_cpu_time_of_a_core() -> None:
    on_a_share = replace(COSTS, measured=made(cpu_ms=100, duration_ms=100, memory_mb=512))
    on_a_whole_one = replace(COSTS, measured=made(cpu_ms=100, duration_ms=100, memory_mb=1_769))
    waits_ms = ROUND_TRIPS["commit"] * ASSUMED.round_trip_ms

    assert on_a_share.billed_ms("commit") == pytest.approx(345.5 + waits_ms, abs=1)
    assert on_a_whole_one.billed_ms("commit") == 100 + waits_ms


def test_only_cpu_time_is_scaled_and_not_the_waits() -> None:
    waiting = replace(COSTS, measured=made(cpu_ms=0, duration_ms=50, memory_mb=512))

    assert waiting.billed_ms("commit") == 50 + ROUND_TRIPS["commit"] * ASSUMED.round_trip_ms


def test_a_million_calls_of_a_gb_and_a_second_cost_the_price_of_a_million_gb_seconds() -> None:
    whole = made(cpu_ms=0, duration_ms=1_000, memory_mb=1_024)
    assumed = replace(ASSUMED, round_trip_ms=0, cold_percent=0)
    million = replace(COSTS, measured=whole, assumed=assumed).lambda_usd("commit")

    assert million == pytest.approx(13.3334 + 0.20)


def test_every_input_increases_the_costs() -> None:
    cheap = sum(usd for _, _, usd in COSTS.idle())
    for more in (
        {"acus": 4.0},
        {"instances": 2},
        {"zones": 3},
        {"endpoints": 9},
        {"alarms": 90},
        {"secrets": 9},
        {"keys": 9},
        {"aurora_gb": 99.0},
        {"polled_queues": 9},
    ):
        dearer = replace(COSTS, assumed=replace(ASSUMED, **more))
        assert sum(usd for _, _, usd in dearer.idle()) > cheap, more


def test_ten_slow_deliveries_in_one_call_cost_a_tenth() -> None:
    by_kind = {
        kind: dict(COSTS.million_deliveries(delivery))["Lambda"]
        for kind, delivery in DELIVERIES.items()
    }

    assert by_kind["answer in 14 s, ten per call"] < by_kind["answer in 14 s, one per call"] / 8
    assert by_kind["answer in 100 ms"] == pytest.approx(2 * 0.20 + 0.16 * 512 / 1_024 * 13.3334)


def test_all_polled_queues_are_priced() -> None:
    assert (ROOT / "template.yaml").read_text().count("Type: SQS\n") == ASSUMED.polled_queues


def test_prod_is_priced_as_it_is_configured() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    given = dict(
        text.split("=", 1)
        for text in config["prod-database"]["deploy"]["parameters"]["parameter_overrides"]
    )

    assert float(given["AcuMin"]) == PROD.acus
    assert int(given["Readers"]) + 1 == PROD.instances
    of_prod = sum(usd for _, _, usd in replace(COSTS, assumed=PROD).idle())
    of_dev = sum(usd for _, _, usd in COSTS.idle())
    assert of_prod - of_dev == pytest.approx((2 * 2 - 1) * HOURS * COSTS.usd("aurora_acu_hour"))


def test_performance_insights_is_on_only_where_aurora_has_the_memory_for_it() -> None:
    """AWS requires two ACUs. A CloudFormation condition cannot compare numbers."""
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    for stage in ("dev", "staging", "prod"):
        overrides = config[f"{stage}-database"]["deploy"]["parameters"]["parameter_overrides"]
        given = dict(text.split("=", 1) for text in overrides)
        has_insights = given.get("Insights", "none") != "none"
        assert not has_insights or float(given.get("AcuMin", 0.5)) >= 2, stage


def test_every_call_that_is_priced_was_measured_here() -> None:
    for calls in CALLS.values():
        for call in calls:
            assert COSTS.measured["functions"][call]["billed_ms"] > 0
    assert COSTS.measured["memory_mb"] == 512


def test_all_alarms_and_endpoints_are_priced() -> None:
    files = [ROOT / "template.yaml", *(ROOT / "infra").glob("*.yaml")]
    text = "\n".join(file.read_text() for file in files)

    assert text.count("Type: AWS::CloudWatch::Alarm") <= ASSUMED.alarms
    assert text.count("VpcEndpointType: Interface") <= ASSUMED.endpoints
    assert text.count("Type: AWS::KMS::Key\n") <= ASSUMED.keys


def made(*, cpu_ms: float, duration_ms: float, memory_mb: int) -> dict[str, object]:
    call = {"cpu_ms": cpu_ms, "duration_ms": duration_ms, "start_cpu_ms": 0}
    return {"memory_mb": memory_mb, "functions": {"commit": call}}
