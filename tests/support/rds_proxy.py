"""Detects what RDS Proxy refuses, and what pins a backend connection to one client.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-pinning.html
"""

import re
from collections.abc import Mapping

STARTUP_PARAMETERS = {
    "user",
    "database",
    "application_name",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "extra_float_digits",
    "search_path",
}
"""The startup parameters that RDS Proxy accepts."""

STATEMENT_BYTES_MAX = 16_384

_PINNING = re.compile(
    r"\b(RESET|DISCARD|DEALLOCATE|PREPARE|EXECUTE|LISTEN|DECLARE|LOAD|nextval|setval|set_config"
    r"|pg_(try_)?advisory_lock\w*|CREATE\s+(LOCAL\s+|GLOBAL\s+)?TEMP\w*)\b"
    r"|(^|;)\s*SET\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def fault_of_startup(parameters: Mapping[str, str]) -> str:
    """The fault of a startup message, or the empty string."""
    refused = sorted(parameters.keys() - STARTUP_PARAMETERS)
    return f"start-up parameters: {', '.join(refused)}" if refused else ""


def fault_of_statement(prepared_name: str, text: str) -> str:
    """The fault of a statement, or the empty string."""
    if prepared_name:
        return f"prepared as {prepared_name}: {text}"
    if len(text.encode()) >= STATEMENT_BYTES_MAX:
        return f"{len(text.encode())} bytes: {text[:200]} ..."
    match = _PINNING.search(_COMMENT.sub("", text))
    return f"{match[0].strip()} pins: {text}" if match else ""
