"""Webhooks, for those who run them: endpoints, their secrets, a ping, and dead letters."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import BaseModel

from openreserve.domain import errors
from openreserve.domain.webhooks import SECRETS_MAX, Endpoint, Verdict, verdict
from openreserve.http import routes
from openreserve.http.handler import Answer, Request, lambda_handler, operation
from openreserve.http.schemas.webhooks import (
    DeadLetterList,
    DeadLetterQuery,
    DeadLetterView,
    EndpointBody,
    EndpointList,
    EndpointView,
    PingView,
    ResendBody,
    ResentView,
    ping_content,
)
from openreserve.webhooks import endpoints, queue, sender

RESENT_AT_A_TIME = 500
"""Dead letters in one call: it has the time for them."""


@operation(
    routes.SAVE_ENDPOINT,
    body=EndpointBody,
    answers={200: EndpointView, 201: EndpointView},
)
def save_endpoint(_request: Request, body: EndpointBody) -> Answer:
    """Create or change a webhook endpoint.

    The answer to a new one has its secret, which is never shown again. A change keeps the secrets
    and enables an endpoint that was disabled.
    """
    secret = endpoints.new_secret()
    wanted = Endpoint(body.endpoint_id, body.url, tuple(body.events), (secret,))
    try:
        known = endpoints.find_endpoint(body.endpoint_id)
    except errors.EndpointNotFound:
        endpoints.save(wanted)
        return _answer(EndpointView.of(wanted, secret), status=201)
    wanted = replace(wanted, secrets=known.secrets or wanted.secrets)
    endpoints.save(wanted)
    return _answer(EndpointView.of(wanted, None if known.secrets else secret))


@operation(routes.LIST_ENDPOINTS, answers={200: EndpointList})
def list_endpoints(_request: Request) -> Answer:
    """List the webhook endpoints.

    By id, without their secrets.
    """
    found = endpoints.list_endpoints()
    return _answer(
        EndpointList.model_construct(webhooks=[EndpointView.of(endpoint) for endpoint in found])
    )


@operation(
    routes.REMOVE_ENDPOINT,
    answers={204: None},
    refusals=(errors.EndpointNotFound,),
)
def remove_endpoint(request: Request) -> Answer:
    """Remove a webhook endpoint.

    Its secrets are deleted, and what is on its way to it is dropped.
    """
    endpoints.remove(request.path_parameters["endpointId"])
    return Answer(204)


@operation(
    routes.ROTATE_SECRET,
    answers={200: EndpointView},
    refusals=(errors.EndpointNotFound,),
)
def rotate_secret(request: Request) -> Answer:
    """Give a webhook endpoint a new secret.

    Deliveries are signed with the one before, too, until the next rotation.
    """
    known = endpoints.find_endpoint(request.path_parameters["endpointId"])
    secret = endpoints.new_secret()
    rotated = replace(known, secrets=(secret, *known.secrets)[:SECRETS_MAX])
    endpoints.save(rotated)
    return _answer(EndpointView.of(replace(rotated, disabled=""), secret))


@operation(
    routes.PING_ENDPOINT,
    answers={200: PingView},
    refusals=(errors.EndpointNotFound,),
)
def ping_endpoint(request: Request) -> Answer:
    """Deliver a test event to a webhook endpoint.

    Once, at once: the answer has the status that the endpoint answered, or why it was not reached.
    """
    endpoint = endpoints.find_endpoint(request.path_parameters["endpointId"])
    event_id = str(uuid4())
    content = ping_content(event_id, datetime.now(UTC))
    try:
        reply = asyncio.run(sender.post(endpoint, event_id, content))
    except sender.NotReached as failure:
        return _answer(PingView.model_construct(id=event_id, delivered=False, reason=str(failure)))
    return _answer(
        PingView.model_construct(
            id=event_id,
            delivered=verdict(reply.status) == Verdict.DELIVERED,
            status=reply.status,
            duration_ms=round(reply.duration_ms, 1),
        )
    )


@operation(
    routes.LIST_DEAD_LETTERS,
    query=DeadLetterQuery,
    answers={200: DeadLetterList},
    refusals=(errors.QueryInvalid,),
)
def list_dead_letters(_request: Request, query: DeadLetterQuery) -> Answer:
    """List events whose delivery was given up.

    In no order. They stay in the dead-letter queue.
    """
    found = queue.list_dead_letters(query.limit)
    return _answer(
        DeadLetterList.model_construct(dead_letters=[DeadLetterView.of(dead) for dead in found])
    )


@operation(
    routes.RESEND_DEAD_LETTERS,
    body=ResendBody,
    answers={200: ResentView},
)
def resend_dead_letters(_request: Request, body: ResendBody) -> Answer:
    """Send events again whose delivery was given up.

    Each gets all its attempts anew. At most 500 in a call: repeat it while `resent` is 500.
    """
    resent = queue.resend_dead_letters(body.endpoint_id or "", RESENT_AT_A_TIME)
    return _answer(ResentView.model_construct(resent=resent))


def _answer(view: BaseModel, status: int = 200) -> Answer:
    return Answer(status, view.model_dump_json(by_alias=True, exclude_none=True))


handler = lambda_handler(
    save_endpoint,
    list_endpoints,
    remove_endpoint,
    rotate_secret,
    ping_endpoint,
    list_dead_letters,
    resend_dead_letters,
)
