"""Option type for durations."""

import math
from typing import Any

import click

SECONDS_MAX = 86_400


class Seconds(click.FloatRange):
    """A duration in seconds, neither infinite nor NaN, which FloatRange would accept."""

    name = "seconds"

    def __init__(self, minimum: float = 0, *, min_open: bool = False) -> None:
        super().__init__(min=minimum, max=SECONDS_MAX, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse the duration, or fail with a usage error."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number.", param, ctx)
        return seconds
