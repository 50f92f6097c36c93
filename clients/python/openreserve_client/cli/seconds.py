"""The value of an option that is a time."""

import math
from typing import Any

import click

SECONDS_MAX = 86_400


class Seconds(click.FloatRange):
    """A time. Neither infinite nor no number, which no range excludes."""

    name = "seconds"

    def __init__(self, least: float = 0, *, min_open: bool = False) -> None:
        super().__init__(min=least, max=SECONDS_MAX, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The time, or a failure."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number.", param, ctx)
        return seconds
