"""The calls of the API as methods, each retried where that is safe."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from openreserve.client import answers
from openreserve.client.answers import EventPage, Health, NotAnswered, Row
from openreserve.client.transport import Call, Sign, Transport
from openreserve.domain.errors import OpenReserveError
from openreserve.domain.reservations import Reservation, Status
from openreserve.domain.resources import Adjustment, Resource

PAGE_SIZE = 200
SERVER_URL = "http://localhost:8080"


class Client:
    """The API at a URL. Threads may share one; each has a connection of its own.

    Every call may raise the error of a problem document, whose `details` are that document, or
    `NotAnswered`. Before that the call is repeated, with jitter and the same Idempotency-Key, for
    `patience_seconds`: while the server is away, slow or busy (429, 502, 503, 504, and 500 without
    a problem document), or still answers a request with the same key.
    """

    def __init__(
        self,
        server_url: str | None = None,
        *,
        timeout_seconds: float = 10,
        patience_seconds: float = 30,
        sign: Sign | None = None,
    ) -> None:
        """Opens no connection yet.

        `server_url`: without it OPENRESERVE_SERVER_URL, else http://localhost:8080. `sign`: see
        `openreserve.client.signing`.
        """
        url = server_url or os.environ.get("OPENRESERVE_SERVER_URL") or SERVER_URL
        self._transport = Transport(url, timeout_seconds, patience_seconds, sign)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection of this thread. The next call opens another."""
        self._transport.close()

    def hold(
        self,
        resource_id: str | Mapping[str, int],
        quantity: int = 1,
        *,
        ttl_seconds: int | None = None,
        key: str | None = None,
    ) -> "Hold":
        """Hold units of a resource, or `{resource_id: quantity}` of several: all of it, or nothing.

        The Idempotency-Key is made here, unless one is given, and kept: a repeat of this call with
        the `key` of its result, or of the NotAnswered that it raised, holds nothing more.
        """
        wanted = {resource_id: quantity} if isinstance(resource_id, str) else resource_id
        items = [{"resourceId": one, "quantity": units} for one, units in wanted.items()]
        body: dict[str, Any] = {"items": items}
        if ttl_seconds is not None:
            body["ttlSeconds"] = ttl_seconds
        key = str(uuid4()) if key is None else key
        made = self._post("/reserve", body, {"idempotency-key": key})
        return Hold(self, key, answers.reservation(made))

    def commit(self, token: UUID | str, *, reacquire: bool = False) -> Reservation:
        """Make a hold final. `reacquire`: also after its deadline, if the stock is still there."""
        body = {"token": str(token)} | ({"ifExpired": "reacquire"} if reacquire else {})
        return answers.reservation(self._post("/commit", body))

    def release(self, token: UUID | str) -> Reservation:
        """Give a hold back: RELEASED, or EXPIRED if it was over."""
        return answers.reservation(self._post("/release", {"token": str(token)}))

    def read_reservation(self, token: UUID | str) -> Reservation:
        """The reservation as it stands."""
        return answers.reservation(self._get(f"/reservations/{token}"))

    def list_reservations(
        self, resource_id: str | None = None, status: Status | None = None
    ) -> Iterator[Reservation]:
        """All reservations, those that hold stock first; of a resource, with a status. Lazily."""
        query = {"resourceId": resource_id, "status": status}
        for page in self._pages("/reservations", query):
            yield from map(answers.reservation, page["reservations"])

    def set_stock(self, resource_id: str, total_stock: int, version: int | None = None) -> Resource:
        """Create the resource or set its total.

        `version`: refuse if the total was changed since it was that. Such a call is not repeated
        once it may have been carried out, as the repeat would be refused.
        """
        condition = {} if version is None else {"if-match": f'"{version}"'}
        body = {"resourceId": resource_id, "totalStock": total_stock}
        set_to = self._post("/resources", body, condition, repeatable=version is None)
        return answers.resource(set_to)

    def set_stock_of_many(self, totals: Sequence[tuple[str, int]]) -> list[Row]:
        """Create resources or set their totals, in one call, and tell of each what became of it."""
        rows = [{"resourceId": resource_id, "totalStock": total} for resource_id, total in totals]
        results = self._post("/resources/batch", {"resources": rows})["results"]
        return [answers.row(fields) for fields in results]

    def adjust_stock(
        self, resource_id: str, difference: int, reason: str, *, key: str | None = None
    ) -> Adjustment:
        """Move the total by a difference, once per `key`: one is made if none is given."""
        body = {"resourceId": resource_id, "difference": difference, "reason": reason}
        key = str(uuid4()) if key is None else key
        made = self._post("/adjustments", body, {"idempotency-key": key})
        return answers.adjustment(made)

    def read_resource(self, resource_id: str) -> Resource:
        """The resource as it stands: expired holds count as available."""
        return answers.resource(self._get(f"/resources/{resource_id}"))

    def list_resources(self, prefix: str = "") -> Iterator[Resource]:
        """All resources whose ids start with the prefix, by id. Lazily."""
        for page in self._pages("/resources", {"prefix": prefix}):
            yield from map(answers.resource, page["resources"])

    def list_events(self, after: str = "", limit: int = PAGE_SIZE) -> EventPage:
        """At most `limit` events behind the cursor, the oldest first; empty: from the beginning."""
        return _event_page(self._get("/events", {"after": after, "limit": limit}))

    def newest_events(self, limit: int = PAGE_SIZE) -> EventPage:
        """The last `limit` events that there are, the oldest first."""
        return _event_page(self._get("/events", {"newest": "true", "limit": limit}))

    def health(self) -> Health:
        """Whether Postgres and Redis answer; `unavailable` is an answer, too."""
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
    """Stock that was set aside, to be committed or released before `expires_at`.

    As a context it is released when an exception leaves it. When none does, it stays as it is: who
    has neither committed nor released it by then leaves it to somebody else, or to its deadline.
    """

    def __init__(self, client: Client, key: str, reservation: Reservation) -> None:
        self._client = client
        self.key = key
        """The Idempotency-Key under which it was made."""
        self.reservation = reservation
        """As it was last answered."""

    @property
    def token(self) -> UUID:
        """What names it. Whoever has it can settle it."""
        return self.reservation.token

    @property
    def expires_at(self) -> datetime:
        """The first instant at which it is over, by the server's clock."""
        return self.reservation.expires_at

    def commit(self, *, reacquire: bool = False) -> Reservation:
        """Make it final. A repeat gets the same."""
        self.reservation = self._client.commit(self.token, reacquire=reacquire)
        return self.reservation

    def release(self) -> Reservation:
        """Give it back. A repeat gets the same."""
        self.reservation = self._client.release(self.token)
        return self.reservation

    def __enter__(self) -> Self:
        """The hold itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Release it if an exception leaves the context, unless it was committed."""
        if error is None or self.reservation.status is not Status.HELD:
            return
        with suppress(OpenReserveError):  # it was settled by somebody else
            try:
                self.release()
            except NotAnswered as reason:
                # What went wrong first is what the caller has to know.
                error.add_note(f"Its hold was not released ({reason}); its deadline will do it.")


def _event_page(fields: Mapping[str, Any]) -> EventPage:
    return EventPage(tuple(map(answers.event, fields["events"])), fields["cursor"])
