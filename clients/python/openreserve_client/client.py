"""The API's operations as methods, with retries where they are safe."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from openreserve_client.errors import NotAnswered, OpenReserveError
from openreserve_client.models import (
    Adjustment,
    EventPage,
    Health,
    Reservation,
    Resource,
    RowResult,
    Status,
)
from openreserve_client.transport import Call, Sign, Transport

PAGE_SIZE = 200
SERVER_URL = "http://localhost:8080"


class Client:
    """A client of the API. Thread-safe; each thread has its own connection.

    Every method may raise `OpenReserveError` (the API refused the request; `details` is the
    problem document) or `NotAnswered` (the client got no valid response). Before that it retries
    with jitter, and with the same Idempotency-Key, for up to `patience_seconds`: while the server
    is unreachable, slow or busy (429, 502, 503, 504, and 500 without a problem document), or still
    processes a request with the same key.
    """

    def __init__(
        self,
        server_url: str | None = None,
        *,
        timeout_seconds: float = 10,
        patience_seconds: float = 30,
        sign: Sign | None = None,
    ) -> None:
        """Does not connect yet.

        `server_url`: by default OPENRESERVE_SERVER_URL, else http://localhost:8080.
        `timeout_seconds`: for each attempt. `sign`: see `openreserve_client.signing`.
        """
        url = server_url or os.environ.get("OPENRESERVE_SERVER_URL") or SERVER_URL
        self._transport = Transport(url, timeout_seconds, patience_seconds, sign)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close the connection of the current thread. The next call opens a new one."""
        self._transport.close()

    def hold(
        self,
        resource_id: str | Mapping[str, int],
        quantity: int = 1,
        *,
        ttl_seconds: int | None = None,
        key: str | None = None,
    ) -> "Hold":
        """Hold units of one resource, or atomically of several: `{resource_id: quantity}`.

        `key`: the Idempotency-Key; by default a new one. To repeat a call without a second hold,
        pass the `key` of its `Hold`, or of the `NotAnswered` that it raised.
        """
        quantities = {resource_id: quantity} if isinstance(resource_id, str) else resource_id
        items = [{"resourceId": one, "quantity": units} for one, units in quantities.items()]
        body: dict[str, Any] = {"items": items}
        if ttl_seconds is not None:
            body["ttlSeconds"] = ttl_seconds
        key = str(uuid4()) if key is None else key
        fields = self._post("/reserve", body, {"idempotency-key": key})
        return Hold(self, key, Reservation.from_json(fields))

    def commit(self, token: UUID | str, *, reacquire: bool = False) -> Reservation:
        """Commit a hold.

        `reacquire`: also commit an expired hold, if the stock is still available.
        """
        body = {"token": str(token)} | ({"ifExpired": "reacquire"} if reacquire else {})
        return Reservation.from_json(self._post("/commit", body))

    def release(self, token: UUID | str) -> Reservation:
        """Release a hold. The status is then RELEASED, or EXPIRED if the deadline had passed."""
        return Reservation.from_json(self._post("/release", {"token": str(token)}))

    def read_reservation(self, token: UUID | str) -> Reservation:
        """Read a reservation."""
        return Reservation.from_json(self._get(f"/reservations/{token}"))

    def list_reservations(
        self, resource_id: str | None = None, status: Status | None = None
    ) -> Iterator[Reservation]:
        """List reservations, those that hold stock first. Reads the pages lazily."""
        query = {"resourceId": resource_id, "status": status}
        for page in self._pages("/reservations", query):
            yield from map(Reservation.from_json, page["reservations"])

    def set_stock(self, resource_id: str, total_stock: int, version: int | None = None) -> Resource:
        """Create a resource, or set its total.

        `version`: fail with `VersionMismatch` if the total was changed since this version. Such a
        call is not retried once it may have been carried out: the retry would fail.
        """
        headers = {} if version is None else {"if-match": f'"{version}"'}
        body = {"resourceId": resource_id, "totalStock": total_stock}
        fields = self._post("/resources", body, headers, repeatable=version is None)
        return Resource.from_json(fields)

    def set_stock_of_many(self, totals: Sequence[tuple[str, int]]) -> list[RowResult]:
        """Create resources or set their totals in one request. Returns a result for each."""
        rows = [{"resourceId": resource_id, "totalStock": total} for resource_id, total in totals]
        results = self._post("/resources/batch", {"resources": rows})["results"]
        return [RowResult.from_json(fields) for fields in results]

    def adjust_stock(
        self, resource_id: str, difference: int, reason: str, *, key: str | None = None
    ) -> Adjustment:
        """Change a total by a difference, once per `key`; by default a new key is used."""
        body = {"resourceId": resource_id, "difference": difference, "reason": reason}
        key = str(uuid4()) if key is None else key
        fields = self._post("/adjustments", body, {"idempotency-key": key})
        return Adjustment.from_json(fields)

    def read_resource(self, resource_id: str) -> Resource:
        """Read a resource and its stock."""
        return Resource.from_json(self._get(f"/resources/{resource_id}"))

    def list_resources(self, prefix: str = "") -> Iterator[Resource]:
        """List the resources whose ids have the prefix, by id. Reads the pages lazily."""
        for page in self._pages("/resources", {"prefix": prefix}):
            yield from map(Resource.from_json, page["resources"])

    def list_events(self, after: str = "", limit: int = PAGE_SIZE) -> EventPage:
        """List events after a cursor, oldest first; without a cursor from the first event."""
        return EventPage.from_json(self._get("/events", {"after": after, "limit": limit}))

    def newest_events(self, limit: int = PAGE_SIZE) -> EventPage:
        """List the newest events, oldest first."""
        return EventPage.from_json(self._get("/events", {"newest": "true", "limit": limit}))

    def health(self) -> Health:
        """Read the health of the API. Not retried; `unavailable` is returned, not raised."""
        call = Call("GET", "/health", repeatable=False, successes=frozenset({503}))
        return Health(**self._transport.send(call).fields())

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._transport.send(Call("GET", path, query or {})).fields()

    def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        call = Call("POST", path, body=body, headers=headers or {}, repeatable=repeatable)
        return self._transport.send(call).fields()

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = self._get(path, {**query, "cursor": cursor, "limit": PAGE_SIZE})
            yield page
            cursor = page.get("nextCursor", "")
            if not cursor:
                return


class Hold:
    """A hold: stock reserved until `expires_at`. Commit or release it before that.

    As a context manager it releases the hold when an exception leaves the block. Without an
    exception the hold stays as it is: commit or release it later, or let it expire.
    """

    def __init__(self, client: Client, key: str, reservation: Reservation) -> None:
        self._client = client
        self.key = key
        """The Idempotency-Key of the request that made the hold."""
        self.reservation = reservation
        """The reservation, as last returned by the API."""

    @property
    def token(self) -> UUID:
        """The token of the reservation. It authorizes commit and release: keep it secret."""
        return self.reservation.token

    @property
    def expires_at(self) -> datetime:
        """The deadline, by the server's clock: the hold is expired from this instant on."""
        return self.reservation.expires_at

    def commit(self, *, reacquire: bool = False) -> Reservation:
        """Commit the hold. Idempotent. `reacquire`: see `Client.commit`."""
        self.reservation = self._client.commit(self.token, reacquire=reacquire)
        return self.reservation

    def release(self) -> Reservation:
        """Release the hold. Idempotent."""
        self.reservation = self._client.release(self.token)
        return self.reservation

    def __enter__(self) -> Self:
        """Return the hold."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Release the hold if an exception leaves the block, unless it was committed."""
        if error is None or self.reservation.status is not Status.HELD:
            return
        with suppress(OpenReserveError):  # another process has committed or released it
            try:
                self.release()
            except NotAnswered as failure:
                # Do not hide the first exception.
                error.add_note(f"The hold was not released ({failure}); it will expire.")
