"""Examples: requests from events/, and responses that a test recorded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).parents[2] / "events"
RECORDED = Path(__file__).parent / "examples.json"


@dataclass(frozen=True)
class Examples:
    """The examples of an operation."""

    parameters: Mapping[str, str]
    """By name in lower case."""
    requests: Mapping[str, Any]
    responses: Mapping[str, Mapping[str, Any]]
    """By status, then by name."""

    @classmethod
    def of(cls, route: str, operation_id: str) -> "Examples":
        """The examples of a route and its operationId."""
        event = _events()[route]
        bodies = {"sample": json.loads(event["body"])} if event.get("body") else {}
        bodies |= recorded().get(operation_id, {}).get("requests", {})
        return cls(
            parameters={
                name.lower(): value
                for location in ("headers", "pathParameters", "queryStringParameters")
                for name, value in (event.get(location) or {}).items()
            },
            requests=_named(bodies),
            responses={
                status: _named(answers)
                for status, answers in recorded().get(operation_id, {}).get("responses", {}).items()
            },
        )


def recorded() -> dict[str, Any]:
    """Responses by operationId, status and name, and further requests. A test verifies them."""
    examples: dict[str, Any] = json.loads(RECORDED.read_text())
    return examples


def response_examples(responses: dict[str, Any], examples: Examples) -> dict[str, Any]:
    """Add the examples to the responses."""
    for status, answers in examples.responses.items():
        for name, answer in answers.items():
            content = responses[status]["content"]
            is_problem = "code" in answer["value"]
            media = content["application/problem+json" if is_problem else "application/json"]
            media.setdefault("examples", {})[name] = answer
    return responses


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in values.items()}


@cache
def _events() -> Mapping[str, dict[str, Any]]:
    """The sample events by route key."""
    events = (json.loads(path.read_text()) for path in sorted(EVENTS.glob("*.json")))
    return {event["routeKey"]: event for event in events if "routeKey" in event}
