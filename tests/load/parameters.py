"""What a load test is told, by variables of the environment or of make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SHAPES = ("blackfriday", "mixed", "soak")


class CannotRun(Exception):
    """Nothing was shown: the text says in one line what is in the way."""


def _number(default: int, least: int, most: int = 1_000_000) -> int:
    number: int = field(default=default, metadata={"range": (least, most)})
    return number


@dataclass(frozen=True, slots=True)
class Parameters:
    """Each is the variable of its name, in capitals."""

    shape: str = "blackfriday"
    host: str = ""  # none: start the runtime of `make run`, and stop it after
    resource: str = ""  # none: a name that is not taken
    users: int = _number(2_000, 1)
    stock: int = _number(100, 0)
    ramp: int = _number(5, 0, 86_400)  # seconds over which the users arrive
    retry_percent: int = _number(0, 0, 100)  # so many ask again with the same key
    rate: int = _number(20, 1, 10_000)  # soak: reservations per second
    duration: int = _number(600, 10, 604_800)  # soak: seconds
    cold: int = _number(0, 0, 1)  # 1: do not warm up the functions of a runtime of our own
    processes: int = _number(1, 1, 256)  # of Locust on this machine
    workers: int = _number(0, 0, 1_000)  # ... on other machines, to be waited for
    master_port: int = _number(5_557, 1, 65_535)  # where those find this one
    reports: str = "build/reports"

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Parameters:
        """Those among the variables; CannotRun if one is not of its form. Empty is left out."""
        given: dict[str, Any] = {}
        for one in fields(cls):
            text = variables.get(one.name.upper(), "").strip()
            if text:
                limits = one.metadata.get("range")
                given[one.name] = _whole(one.name, text, *limits) if limits else text
        parameters = cls(**given)
        if parameters.shape not in SHAPES:
            raise CannotRun(f"SHAPE is {parameters.shape}, and must be one of {', '.join(SHAPES)}")
        if parameters.host and not parameters.host.startswith(("http://", "https://")):
            raise CannotRun(f"HOST is {parameters.host}, and must be like http://localhost:8080")
        if parameters.workers and not parameters.host:
            raise CannotRun("WORKERS are other machines, which need to be told the HOST")
        return parameters

    @classmethod
    def of_json(cls, text: str) -> Parameters:
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """For Locust, which hands it on to its workers."""
        return json.dumps(asdict(self))

    @property
    def crowd(self) -> int:
        """Locust's users: buyers that come once or, in a soak, once a second each."""
        return self.rate if self.shape == "soak" else self.users

    @property
    def arrival_seconds(self) -> int:
        return 1 if self.shape == "soak" else self.ramp

    def stocks(self) -> dict[str, int]:
        """The resources that are sold, and how much there is of each."""
        if self.shape == "mixed":
            return {f"{self.resource}-{n}": self.stock for n in range(MIXED_RESOURCES)}
        return {self.resource: self.stock}


MIXED_RESOURCES = 20


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise CannotRun(f"{name.upper()} is {text}, and must be a number from {least} to {most}")
    return int(text)
