"""Webhooks, for those who run them: endpoints, their secrets, a ping, and dead letters."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import BaseModel

from openreserve import api, endpoints, errors, outbound, queue
from openreserve.webhook_views import (
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
from openreserve.webhooks import SECRETS_MAX, Endpoint, Verdict, verdict

RESENT_AT_A_TIME = 500
"""Dead letters in one call: it has the time for them."""


@api.operation(
    "POST /api/v1/webhooks",
    tag="Webhooks",
    body=EndpointBody,
    answers={200: EndpointView, 201: EndpointView},
)
def save_endpoint(_request: api.Request, body: EndpointBody) -> api.Answer:
    """Create or change a webhook endpoint.

    The answer to a new one has its secret, which is never shown again. A change keeps the secrets
    and enables an endpoint that was disabled.
    """
    secret = endpoints.new_secret()
    wanted = Endpoint(body.endpoint_id, body.url, tuple(body.events), (secret,))
    try:
        known = endpoints.find_endpoint(body.endpoint_id)
    except errors.EndpointUnknown:
        endpoints.save(wanted)
        return _answer(EndpointView.of(wanted, secret), status=201)
    wanted = replace(wanted, secrets=known.secrets or wanted.secrets)
    endpoints.save(wanted)
    return _answer(EndpointView.of(wanted, None if known.secrets else secret))


@api.operation("GET /api/v1/webhooks", tag="Webhooks", answers={200: EndpointList})
def list_endpoints(_request: api.Request) -> api.Answer:
    """List the webhook endpoints.

    By id, without their secrets.
    """
    found = endpoints.list_endpoints()
    return _answer(
        EndpointList.model_construct(webhooks=[EndpointView.of(endpoint) for endpoint in found])
    )


@api.operation(
    "DELETE /api/v1/webhooks/{endpointId}",
    tag="Webhooks",
    answers={204: None},
    refusals=(errors.EndpointUnknown,),
)
def remove_endpoint(request: api.Request) -> api.Answer:
    """Remove a webhook endpoint.

    Its secrets are deleted, and what is on its way to it is dropped.
    """
    endpoints.remove(request.path_parameters["endpointId"])
    return api.Answer(204)


@api.operation(
    "POST /api/v1/webhooks/{endpointId}/rotate",
    tag="Webhooks",
    answers={200: EndpointView},
    refusals=(errors.EndpointUnknown,),
)
def rotate_secret(request: api.Request) -> api.Answer:
    """Give a webhook endpoint a new secret.

    Deliveries are signed with the one before, too, until the next rotation.
    """
    known = endpoints.find_endpoint(request.path_parameters["endpointId"])
    secret = endpoints.new_secret()
    rotated = replace(known, secrets=(secret, *known.secrets)[:SECRETS_MAX])
    endpoints.save(rotated)
    return _answer(EndpointView.of(replace(rotated, disabled=""), secret))


@api.operation(
    "POST /api/v1/webhooks/{endpointId}/ping",
    tag="Webhooks",
    answers={200: PingView},
    refusals=(errors.EndpointUnknown,),
)
def ping_endpoint(request: api.Request) -> api.Answer:
    """Deliver a test event to a webhook endpoint.

    Once, at once: the answer has the status that the endpoint answered, or why it was not reached.
    """
    endpoint = endpoints.find_endpoint(request.path_parameters["endpointId"])
    event_id = str(uuid4())
    content = ping_content(event_id, datetime.now(UTC))
    try:
        reply = asyncio.run(outbound.post(endpoint, event_id, content))
    except outbound.NotReached as failure:
        return _answer(PingView.model_construct(id=event_id, delivered=False, reason=str(failure)))
    return _answer(
        PingView.model_construct(
            id=event_id,
            delivered=verdict(reply.status) == Verdict.DELIVERED,
            status=reply.status,
            duration_ms=round(reply.duration_ms, 1),
        )
    )


@api.operation(
    "GET /api/v1/dead-letters",
    tag="Dead letters",
    query=DeadLetterQuery,
    answers={200: DeadLetterList},
    refusals=(errors.QueryInvalid,),
)
def list_dead_letters(_request: api.Request, query: DeadLetterQuery) -> api.Answer:
    """List events whose delivery was given up.

    In no order. They stay in the dead-letter queue.
    """
    found = queue.list_dead_letters(query.limit)
    return _answer(
        DeadLetterList.model_construct(dead_letters=[DeadLetterView.of(dead) for dead in found])
    )


@api.operation(
    "POST /api/v1/dead-letters/resend",
    tag="Dead letters",
    body=ResendBody,
    answers={200: ResentView},
)
def resend_dead_letters(_request: api.Request, body: ResendBody) -> api.Answer:
    """Send events again whose delivery was given up.

    Each gets all its attempts anew. At most 500 in a call: repeat it while `resent` is 500.
    """
    resent = queue.resend_dead_letters(body.endpoint_id or "", RESENT_AT_A_TIME)
    return _answer(ResentView.model_construct(resent=resent))


def _answer(view: BaseModel, status: int = 200) -> api.Answer:
    return api.Answer(status, view.model_dump_json(by_alias=True, exclude_none=True))


handler = api.entry_point(
    save_endpoint,
    list_endpoints,
    remove_endpoint,
    rotate_secret,
    ping_endpoint,
    list_dead_letters,
    resend_dead_letters,
)
