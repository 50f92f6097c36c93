"""Parameters of a load test, from environment variables or variables of make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SHAPES = ("blackfriday", "mixed", "soak")


class CannotRun(Exception):
    """The load test could not run. The message is one line that names the cause."""


def _number(default: int, least: int, most: int = 1_000_000) -> int:
    number: int = field(default=default, metadata={"range": (least, most)})
    return number


@dataclass(frozen=True, slots=True)
class Parameters:
    """Each field is set by the variable of its name in capitals."""

    shape: str = "blackfriday"
    host: str = ""  # empty: start the runtime of `make run` and stop it afterwards
    resource: str = ""  # empty: a new name
    users: int = _number(2_000, 1)
    stock: int = _number(100, 0)
    ramp: int = _number(5, 0, 86_400)  # seconds over which the users arrive
    retry_percent: int = _number(0, 0, 100)  # share of requests repeated with the same key
    rate: int = _number(20, 1, 10_000)  # soak: reservations per second
    duration: int = _number(600, 10, 604_800)  # soak: seconds
    cold: int = _number(0, 0, 1)  # 1: do not warm up the functions of the runtime that is started
    processes: int = _number(1, 1, 256)  # Locust processes on this machine
    workers: int = _number(0, 0, 1_000)  # Locust workers on other machines to wait for
    master_port: int = _number(5_557, 1, 65_535)  # the port that workers connect to
    reports: str = "build/reports"

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Parameters:
        """Read the variables. Empty ones use the default. CannotRun: one is invalid."""
        values: dict[str, Any] = {}
        for parameter in fields(cls):
            text = variables.get(parameter.name.upper(), "").strip()
            if text:
                limits = parameter.metadata.get("range")
                values[parameter.name] = _whole(parameter.name, text, *limits) if limits else text
        parameters = cls(**values)
        if parameters.shape not in SHAPES:
            raise CannotRun(f"SHAPE is {parameters.shape}, and must be one of {', '.join(SHAPES)}")
        if parameters.host and not parameters.host.startswith(("http://", "https://")):
            raise CannotRun(f"HOST is {parameters.host}, and must be like http://localhost:8080")
        if parameters.workers and not parameters.host:
            raise CannotRun("WORKERS run on other machines, and need a HOST that they can reach")
        return parameters

    @classmethod
    def of_json(cls, text: str) -> Parameters:
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """The form in which Locust passes the parameters to its workers."""
        return json.dumps(asdict(self))

    @property
    def crowd(self) -> int:
        """The number of Locust users. Each buys once or, in a soak test, once a second."""
        return self.rate if self.shape == "soak" else self.users

    @property
    def arrival_seconds(self) -> int:
        return 1 if self.shape == "soak" else self.ramp

    def stocks(self) -> dict[str, int]:
        """The units for sale by resource."""
        if self.shape == "mixed":
            return {f"{self.resource}-{n}": self.stock for n in range(MIXED_RESOURCES)}
        return {self.resource: self.stock}


MIXED_RESOURCES = 20


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise CannotRun(f"{name.upper()} is {text}, and must be a number from {least} to {most}")
    return int(text)
