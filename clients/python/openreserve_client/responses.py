"""HTTP responses of the API, and the exceptions that they are raised as."""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from openreserve_client.errors import ERRORS, NotAnswered

_ERROR_STATUS_MIN = 400
_SERVER_ERROR_STATUS_MIN = 500
_GATEWAY_REASONS = {401: "authentication failed", 403: "access denied"}
"""API Gateway sends these without a problem document, before the API sees the request."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, or the reason why there is none."""

    status: int | None
    """None if there was no response."""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    failure: str = ""
    """Why there was no response."""

    @classmethod
    def missing(cls, error: Exception, server_url: str) -> Self:
        """The result of a request that failed with an exception."""
        if isinstance(error, TimeoutError):
            return cls(None, failure=f"the request to {server_url} timed out")
        if isinstance(error, ConnectionRefusedError):
            return cls(None, failure=f"could not connect to {server_url}: connection refused")
        return cls(None, failure=f"{server_url}: {str(error) or type(error).__name__}")

    @property
    def document(self) -> Any:
        """The JSON body; None if it is not JSON."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    @property
    def code(self) -> str:
        """The code of the problem document; empty if there is none."""
        is_error = self.status is None or self.status >= _ERROR_STATUS_MIN
        document = self.document if is_error else None
        return str(document.get("code", "")) if isinstance(document, dict) else ""

    @property
    def retry_after_seconds(self) -> float:
        """The delay in the Retry-After header; 0 without one."""
        retry_after = self.headers.get("retry-after", "")
        return float(retry_after) if retry_after.isdecimal() else 0.0

    def checked(self, key: str | None, successes: Container[int] = ()) -> Self:
        """The response, if it is one that the API documents.

        `key`: the Idempotency-Key of the request. `successes`: error statuses that are regular
        responses of this call.

        Raises:
            NotAnswered: there was no response, or none that the API documents.
        """
        if self.status is None:
            raise NotAnswered(self.failure, status=None, code="server_unreachable", key=key)
        is_documented = (
            self.status < _ERROR_STATUS_MIN or self.status in successes or self.code in ERRORS
        )
        if is_documented and isinstance(self.document, dict):
            return self
        is_server_error = self.status >= _SERVER_ERROR_STATUS_MIN
        fallback = "server error" if is_server_error else "unexpected response"
        reason = _GATEWAY_REASONS.get(self.status, fallback)
        code = self.code or f"http_{self.status}"
        raise NotAnswered(f"{reason} ({self.status})", status=self.status, code=code, key=key)

    def fields(self) -> dict[str, Any]:
        """The JSON object of a successful response.

        Raises:
            OpenReserveError: the response is a problem document.
        """
        document: dict[str, Any] = self.document
        if self.code in ERRORS:
            raise ERRORS[self.code](document)
        return document
