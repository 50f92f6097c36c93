"""The operations of the API, found in the handlers: `functions/*/app.py`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from openreserve.http.handler import Operation
from openreserve.http.routes import ROUTES, Route

FUNCTIONS = Path(__file__).parents[2] / "functions"


@cache
def operations() -> Sequence[Operation]:
    """Every operation with a documented route, in the order of the table of routes."""
    order = {route: position for position, route in enumerate(ROUTES)}
    found = [operation for operation, _ in _declared() if operation.routes[0] in order]
    return sorted(found, key=lambda operation: order[operation.routes[0]])


@cache
def handlers() -> Mapping[Route, Any]:
    """The Lambda handler of the function that serves each route."""
    return {
        route: module.handler for operation, module in _declared() for route in operation.routes
    }


def _declared() -> Iterator[tuple[Operation, ModuleType]]:
    for path in sorted(FUNCTIONS.glob("*/app.py")):
        module = import_module(f"functions.{path.parent.name}.app")
        for value in vars(module).values():
            if isinstance(value, Operation):
                yield value, module
