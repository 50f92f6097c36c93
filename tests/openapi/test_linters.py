"""Spectral and Redocly report no problems in the OpenAPI document."""

import json

import pytest

from tests.openapi.tools import DOCUMENT, FILES, node_tool, output_of


def test_spectral_reports_no_problems(pytestconfig: pytest.Config) -> None:
    spectral = node_tool("spectral", pytestconfig)
    options = ("--ruleset", FILES / ".spectral.yaml", "--fail-severity", "hint")

    assert "No results" in output_of(spectral, "lint", DOCUMENT, *options)


def test_redocly_reports_no_problems(pytestconfig: pytest.Config) -> None:
    redocly = node_tool("redocly", pytestconfig)
    options = ("--config", FILES / "redocly.yaml", "--format", "json")

    report = json.loads(
        output_of("env", "REDOCLY_TELEMETRY=off", redocly, "lint", DOCUMENT, *options)
    )

    assert report["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


def test_the_npm_lock_file_contains_no_registry_urls() -> None:
    lock = json.loads((FILES / "package-lock.json").read_text())

    assert len(lock["packages"]) > 200
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
