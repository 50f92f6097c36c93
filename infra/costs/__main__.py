"""What a stage costs: `python -m infra.costs` prints the tables of docs/explanation/costs.md.

Computed from prices.toml and measured.toml in this folder; ASSUMED holds the assumptions.
"""

import math
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parents[1] / "docs/explanation/costs.md"
BEGIN, END = "<!-- tables -->", "<!-- end -->"
HOURS = 730
"""Hours of a month."""
MINUTES = HOURS * 60
VCPU_MB = 1_769
"""The memory of one full vCPU; CPU is proportional to memory."""
MILLION = 1_000_000
PER_MILLION_BELOW_USD = 1e-4
"""Prices below this are shown per million."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """Assumptions that cannot be measured here. Replace them with your own numbers."""

    cpu_ratio: float = 1.0
    """CPU time of a Lambda vCPU relative to the measuring machine."""
    round_trip_ms: float = 2.0
    """Network and proxy; negligible on the measuring machine."""
    cold_percent: float = 1.0
    """Share of calls with a cold start, which is billed, too."""
    acus: float = 1.0
    """Average per Aurora instance. AcuMin is 0.5, but Enhanced Monitoring, the log export and a
    call every minute keep it above."""
    instances: int = 1
    zones: int = 2
    endpoints: int = 2
    alarms: int = 58
    """Metrics of alarms; an alarm on an expression is billed for each metric."""
    secrets: int = 1
    keys: int = 1
    aurora_gb: float = 1.0
    aurora_ios_per_write: float = 4.0
    """An order of magnitude: Aurora bills storage requests, and batches them."""
    traces_percent: float = 5.0
    pollers: int = 5
    """Lambda's pollers per event source queue, each with long polls of 20 s."""
    polled_queues: int = 2
    delivery_ms: float = 30.0
    """Duration of an invocation of WebhookFunction without the wait for an endpoint."""
    delivery_log_bytes: int = 1_000


ASSUMED = Assumed()
PROD = replace(ASSUMED, acus=2.0, instances=2)
"""AcuMin=2 and Readers=1, as in samconfig.toml."""
SALE_ACUS = 8
"""AcuMin for the day of a sale."""
ROUND_TRIPS = {"reserve": 3, "commit": 2, "release": 3, "read": 1, "reconcile_idle": 8}
"""Sequential round trips of a call to Postgres and Redis."""
CALLS = {
    "reserved and committed": ("reserve", "commit"),
    "reserved and released": ("reserve", "release"),
    "reserved and expired": ("reserve",),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """Invocations and SQS requests for the delivery of an event to an endpoint."""

    answer_seconds: float
    calls: float
    """Invocations of WebhookFunction, including those that wait for no endpoint."""
    waits: float
    """The invocations that wait for the endpoint."""
    requests: float
    """Requests to SQS."""


DELIVERIES = {
    # The event: sent, received, deleted, and a call that fans it out. Its delivery: the same.
    "answer in 100 ms": Delivery(0.1, calls=2, waits=1, requests=6),
    "answer in 1 s": Delivery(1, calls=2, waits=1, requests=6),
    # One slow answer per environment and 10 minutes is waited for like this.
    "answer in 14 s, one per call": Delivery(14, calls=2, waits=1, requests=6),
    # All others are moved to the retry queue, and waited for ten at a time.
    "answer in 14 s, ten per call": Delivery(14, calls=2.1, waits=0.1, requests=7.2),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs computed from the two files and the assumptions."""

    prices: Mapping[str, Any]
    measured: Mapping[str, Any]
    assumed: Assumed = ASSUMED

    @classmethod
    def of_files(cls) -> "Costs":
        """Read the files in this folder."""
        prices, measured = (
            tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in ("prices", "measured")
        )
        return cls(prices, measured)

    def usd(self, price: str) -> float:
        """The price of one unit."""
        return float(self.prices[price]["usd"])

    def billed_ms(self, function: str) -> float:
        """Billed duration of a warm call on Lambda: CPU time on a share of a vCPU, and waits.

        CPU x 1769 / memory x ratio + other time measured here + round trips, rounded up to ms.
        """
        measured: dict[str, float] = self.measured["functions"][function]
        waits_ms = max(measured["duration_ms"] - measured["cpu_ms"], 0)
        waits_ms += ROUND_TRIPS[function] * self.assumed.round_trip_ms
        return math.ceil(self._on_lambda_ms(measured["cpu_ms"]) + waits_ms)

    def start_ms(self, function: str) -> float:
        """Billed duration of a cold start."""
        return math.ceil(self._on_lambda_ms(self.measured["functions"][function]["start_cpu_ms"]))

    def lambda_usd(self, function: str) -> float:
        """The price of a million calls."""
        ms = self.billed_ms(function) + self.assumed.cold_percent / 100 * self.start_ms(function)
        return MILLION * (self.usd("lambda_request") + self._gb_seconds(ms / 1_000))

    def million_of(self, calls: tuple[str, ...]) -> Iterator[tuple[str, float]]:
        """The price of a million reservations with these calls, per billed item."""
        functions = self.measured["functions"]
        yield "API Gateway", len(calls) * MILLION * self.usd("http_api_request")
        yield "Lambda", sum(map(self.lambda_usd, calls))
        logs_gb = sum(functions[call]["log_bytes"] for call in calls) * MILLION / 1e9
        yield "CloudWatch Logs", logs_gb * self.usd("logs_gb")
        traces = len(calls) * MILLION * self.assumed.traces_percent / 100
        yield "X-Ray", traces * self.usd("trace")
        commands = sum(functions[call]["redis_commands"] for call in calls) * MILLION
        yield "ElastiCache", commands * self.usd("cache_ecpu")
        ios = len(calls) * MILLION * self.assumed.aurora_ios_per_write
        yield "Aurora I/O", ios * self.usd("aurora_io")

    def million_deliveries(self, delivery: Delivery) -> Iterator[tuple[str, float]]:
        """The price of a million events, each delivered to one endpoint, per billed item."""
        seconds = delivery.calls * self.assumed.delivery_ms / 1_000
        seconds += delivery.waits * delivery.answer_seconds
        calls = delivery.calls * self.usd("lambda_request")
        yield "Lambda", MILLION * (calls + self._gb_seconds(seconds))
        request = self.usd("sqs_request") + self.usd("sqs_group")
        yield "SQS", MILLION * delivery.requests * request
        logs_gb = MILLION * delivery.calls * self.assumed.delivery_log_bytes / 1e9
        yield "CloudWatch Logs", logs_gb * self.usd("logs_gb")

    def idle(self) -> Iterator[tuple[str, str, float]]:
        """A month without traffic: item, amount and price."""
        assumed = self.assumed
        yield "RDS Proxy", f"8 ACUs, the minimum, {HOURS} h", 8 * HOURS * self.usd("proxy_acu_hour")
        acus = assumed.acus * assumed.instances
        yield "Aurora", f"{acus:g} ACU, {HOURS} h", acus * HOURS * self.usd("aurora_acu_hour")
        yield (
            "VPC endpoints",
            f"{assumed.endpoints} in {assumed.zones} zones, {HOURS} h",
            assumed.endpoints * assumed.zones * HOURS * self.usd("endpoint_hour"),
        )
        stay = self._gb_seconds(60) * MINUTES + self._calls_usd
        yield "`expire`, which runs the whole minute", f"{MINUTES:,} x 60 s", stay
        reconcile = MINUTES * (self.lambda_usd("reconcile_idle") / MILLION)
        reconcile += MINUTES * self.usd("scheduler_invocation")
        yield (
            "`reconcile`",
            f"{MINUTES:,} x {self.billed_ms('reconcile_idle'):,} ms",
            reconcile,
        )
        receives = assumed.polled_queues * assumed.pollers * MINUTES * 3
        yield (
            "SQS polling by Lambda",
            f"{assumed.polled_queues} queues, {receives:,} requests",
            receives * self.usd("sqs_request"),
        )
        yield (
            "ElastiCache",
            f"0.1 GB, the minimum, {HOURS} h",
            0.1 * HOURS * self.usd("cache_gb_hour"),
        )
        yield "Alarms", f"{assumed.alarms}", assumed.alarms * self.usd("alarm_month")
        metrics = int(self.measured["metrics"])
        yield "Metrics, if in use", f"{metrics}", metrics * self.usd("metric_month")
        yield "Secrets Manager", f"{assumed.secrets}", assumed.secrets * self.usd("secret_month")
        yield "KMS", f"{assumed.keys} key", assumed.keys * self.usd("key_month")
        yield (
            "Aurora storage",
            f"{assumed.aurora_gb:g} GB",
            assumed.aurora_gb * self.usd("aurora_gb_month"),
        )

    @property
    def _calls_usd(self) -> float:
        """The price of a schedule that invokes a function every minute."""
        return MINUTES * (self.usd("lambda_request") + self.usd("scheduler_invocation"))

    def _on_lambda_ms(self, cpu_ms: float) -> float:
        return cpu_ms * VCPU_MB / float(self.measured["memory_mb"]) * self.assumed.cpu_ratio

    def _gb_seconds(self, seconds: float) -> float:
        return seconds * float(self.measured["memory_mb"]) / 1_024 * self.usd("lambda_gb_second")


def tables(costs: Costs) -> str:
    """The tables of the document."""
    million = _table_of_millions(
        "per million, in USD",
        {kind: dict(costs.million_of(calls)) for kind, calls in CALLS.items()},
    )
    deliveries = _table_of_millions(
        "per million webhooks, in USD",
        {kind: dict(costs.million_deliveries(each)) for kind, each in DELIVERIES.items()},
    )
    return "\n\n".join(
        (_idle(costs), _larger(costs), million, deliveries, _billed(costs), _prices(costs))
    )


def _larger(costs: Costs) -> str:
    """Prices of larger settings."""
    day = 24 * costs.usd("aurora_acu_hour")
    rows = [
        ("`prod` as in samconfig.toml, a month idle", replace(costs, assumed=PROD)),
        (
            "`dev`, if Aurora idles at its minimum",
            replace(costs, assumed=replace(ASSUMED, acus=0.5)),
        ),
    ]
    priced = [(name, sum(usd for _, _, usd in of.idle())) for name, of in rows]
    priced.append((f"`AcuMin={SALE_ACUS}` for the day of a sale, per instance", SALE_ACUS * day))
    return _table(("other settings", "USD"), [(name, f"{usd:.2f}") for name, usd in priced])


def _billed(costs: Costs) -> str:
    rows = [
        (
            f"`{name.replace('_', ' ')}`",
            f"{measured['duration_ms_median']:.1f}",
            f"{measured['billed_ms']:.1f}",
            f"{measured['cpu_ms']:.1f}" if measured["cpu_ms"] else "",
            f"{costs.billed_ms(name):,}" if name in ROUND_TRIPS else "",
            f"{costs.start_ms(name):,}" if measured["start_cpu_ms"] else "",
        )
        for name, measured in costs.measured["functions"].items()
    ]
    head = (
        "call",
        "ms here, median",
        "billed here, mean",
        "CPU ms here",
        "ms on Lambda",
        "cold start, ms",
    )
    return _table(head, rows)


def _table_of_millions(title: str, by_kind: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(by_kind.values())))
    rows = [(name, *(f"{parts[name]:.2f}" for parts in by_kind.values())) for name in names]
    sums = ("**total**", *(f"**{sum(parts.values()):.2f}**" for parts in by_kind.values()))
    return _table((title, *by_kind), [*rows, sums])


def _idle(costs: Costs) -> str:
    parts = list(costs.idle())
    rows = [(name, amount, f"{usd:.2f}") for name, amount, usd in parts]
    total = sum(usd for _, _, usd in parts)
    return _table(("a month idle", "amount", "USD"), [*rows, ("**total**", "", f"**{total:.2f}**")])


def _prices(costs: Costs) -> str:
    rows = [
        (
            name.replace("_", " "),
            _plain(price["usd"]),
            price["unit"],
            price["source"],
            str(price["read"]),
        )
        for name, price in costs.prices.items()
    ]
    return _table(("price", "USD", "per", "source", "date"), rows)


def _plain(usd: float) -> str:
    return f"{usd * MILLION:g} per million" if usd < PER_MILLION_BELOW_USD else f"{usd:g}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str]) -> None:
    """Print the tables; with --write put them into the document."""
    text = tables(Costs.of_files())
    if list(arguments) == ["--write"]:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
