"""Runs the queues of template.yaml and the webhook function, without the rest of the runtime."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.local.aws import Aws, sqs
from infra.local.lambdas.pool import Pool
from infra.local.template import model
from tests.conftest import delete_queues, forget
from tests.support.handlers import call

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def deliveries_run(
    aws: Aws,
    name: str,
    patch: pytest.MonkeyPatch,
    *,
    environments: int,
    **parameters: str,
) -> AsyncIterator[None]:
    """The webhook function runs in separate environments, the endpoints API in this process."""
    given = {
        "DatabaseUrl": "-",
        "MigrationUrl": "-",
        "WebhookDevelopment": "1",
        "WebhookCacheSeconds": "1",
        "WebhookSecretsPrefix": f"{name}/",
        **parameters,
    }
    running = model.load(ROOT / "template.yaml", given, aws.url)
    functions = {function.name: function for function in running.functions}
    sqs.create(aws, running.queues)
    api_variables = functions["EndpointsFunction"].environment
    for variable, value in {**api_variables, **aws.variables}.items():
        if variable not in ("DATABASE_URL", "REDIS_URL"):
            patch.setenv(variable, value)
    forget()
    pool = Pool(functions["WebhookFunction"], environments, 1_000, lambda *_: None, aws.variables)
    mappings = sqs.Mappings([pool], aws)
    await pool.start()
    mappings.start()
    try:
        yield
    finally:
        await mappings.stop()
        await pool.stop()
        delete_queues(aws)


def save(endpoint_id: str, url: str, *events: str) -> None:
    """Create an endpoint."""
    body = {"endpointId": endpoint_id, "url": url, "events": list(events)}
    assert call("save-endpoint", body).status == 201
