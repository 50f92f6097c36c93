"""A hook of MkDocs that generates reference pages: settings, errors, routes, events, metrics, CLI.

Each page is written from the code when the site is built, so that it cannot contradict the code.
"""

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from openreserve.http.problems import RETRY_AFTER_SECONDS, STATUSES, UNHANDLED
from openreserve.runtime import settings as settings_module
from openreserve.runtime import telemetry
from openreserve.runtime.settings import Settings
from openreserve_client.cli.program import commands

OPENAPI = Path(__file__).parent / "openapi.json"
METHODS = {"get", "post", "put", "delete"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for path, lines in PAGES.items():
        files.append(File.generated(config, path, content="\n".join(lines()) + "\n"))
    return files


def settings() -> Iterator[str]:
    """Every environment variable of the functions, with its default and its meaning."""
    yield from (
        "# Settings",
        "",
        "Environment variables of the functions.",
        "`template.yaml` sets those that have a parameter.",
        "",
    )
    meanings = _field_docstrings(settings_module, Settings.__name__)
    yield from _table(
        ("variable", "default", "meaning"),
        (
            (
                f"`{field.name.upper()}`",
                "" if field.default == "" else f"`{field.default}`",
                meanings[field.name],
            )
            for field in fields(Settings)
        ),
    )


def errors() -> Iterator[str]:
    """Every error with its status and code."""
    yield from (
        "# Errors",
        "",
        "Errors are problem documents ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457))",
        "with a stable `code`. A status 5xx does not say that nothing was done:",
        "repeat the request with the same `Idempotency-Key`.",
        "",
    )
    rows = [
        (
            str(status),
            f"`{code}`",
            error.sentence(),
            f"{RETRY_AFTER_SECONDS[error]} s" if error in RETRY_AFTER_SECONDS else "",
        )
        for error, (status, code) in STATUSES.items()
    ]
    status, code = UNHANDLED
    rows.append(
        (str(status), f"`{code}`", "Unhandled exception. The log has it under `requestId`.", "")
    )
    yield from _table(("status", "code", "what happened", "`Retry-After`"), rows)


def api() -> Iterator[str]:
    """Every route with its summary, statuses and scopes, from the OpenAPI document."""
    yield from (
        "# HTTP API",
        "",
        "Generated from the OpenAPI document, `infra/openapi.json`.",
        "A running engine serves it with every field at `/docs`.",
        "[Errors](errors.md) and [HTTP semantics](http-semantics.md) have pages of their own.",
        "",
    )
    paths = json.loads(OPENAPI.read_text())["paths"]
    yield from _table(
        ("call", "summary", "statuses", "scopes (JWT)"),
        (
            _route(f"{method.upper()} {path}", operation)
            for path, operations in paths.items()
            for method, operation in operations.items()
            if method in METHODS
        ),
    )


def events() -> Iterator[str]:
    """Every type of event, from the OpenAPI document."""
    yield from (
        "# Events",
        "",
        "Stock events are always written.",
        "Reservation events are written where `RESERVATION_EVENTS` is 1.",
        "[Receive webhooks](../how-to/webhooks.md) describes delivery and verification.",
        "",
    )
    webhooks = json.loads(OPENAPI.read_text())["webhooks"]
    yield from _table(
        ("type", "meaning"),
        ((f"`{name}`", webhook["post"]["summary"]) for name, webhook in webhooks.items()),
    )


def metrics() -> Iterator[str]:
    """Every metric with its unit and its meaning."""
    yield from (
        "# Metrics",
        "",
        "Functions write metrics in CloudWatch's embedded metric format, in the namespace",
        f"`{telemetry.NAMESPACE}`. The local runtime serves them to Prometheus at `/metrics`.",
        "",
    )
    yield from _table(
        ("metric", "unit", "meaning"),
        ((f"`{name}`", metric.unit, metric.meaning) for name, metric in telemetry.METRICS.items()),
    )


def cli() -> Iterator[str]:
    """Every command with its help text."""
    yield from (
        "# Command line",
        "",
        "Exit codes: 0 success; 1 a request was refused, or a check failed;",
        "2 the command could not run; 130 interrupted.",
        "",
        "The commands read `OPENRESERVE_SERVER_URL`, `OPENRESERVE_DATABASE_URL`,",
        "`OPENRESERVE_TOKEN`, `OPENRESERVE_SIGV4` and `NO_COLOR`.",
        "",
    )
    yield from _command(commands, click.Context(commands, info_name="openreserve"))


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "reference/settings.md": settings,
    "reference/errors.md": errors,
    "reference/api.md": api,
    "reference/events.md": events,
    "reference/metrics.md": metrics,
    "reference/cli.md": cli,
}


def _route(call: str, operation: Mapping[str, Any]) -> tuple[str, ...]:
    statuses = ", ".join(status for status in operation["responses"] if status.isdecimal())
    scopes = [scope for need in operation["security"] for scope in need.get("jwt", ())]
    return (
        f"`{call}`",
        operation["summary"],
        statuses,
        ", ".join(f"`{scope}`" for scope in scopes) or "none: open",
    )


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            inner = click.Context(subcommand, parent=context, info_name=name, terminal_width=80)
            yield from _command(subcommand, inner)
        return
    yield from (
        f"## {context.command_path}",
        "",
        "```text",
        command.get_help(context),
        "```",
        "",
    )


def _field_docstrings(module: ModuleType, class_name: str) -> dict[str, str]:
    """The string below each field of a class. Python does not keep it, so read the source."""
    tree = ast.parse(inspect.getsource(module))
    (body,) = (n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name)
    docstrings: dict[str, str] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docstrings[name] = text
    return docstrings


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _row(heading)
    yield _row(("---",) * len(heading))
    yield from map(_row, rows)


def _row(cells: tuple[str, ...]) -> str:
    escaped = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
