"""A client that openapi-python-client generates from the OpenAPI document works."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runtime import Runtime
from tests.openapi.tools import DOCUMENT, output_of

PACKAGE = "generated_openreserve"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The client as a package that can be imported."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yaml").write_text("post_hooks: []\n")
    said = output_of(
        *(Path(sys.executable).parent / "openapi-python-client", "generate"),
        *("--path", DOCUMENT, "--meta", "none", "--output-path", folder / PACKAGE),
        *("--config", folder / "config.yaml", "--fail-on-warning"),
    )
    assert "Warning" not in said, said
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def call(operation: str, **arguments: Any) -> Any:
    """Call an operation of the generated client, such as `reservations.reserve`."""
    return importlib.import_module(f"{PACKAGE}.api.{operation}").sync(**arguments)


@pytest.mark.usefixtures("generated")
def test_a_shop_in_python_reserves_commits_releases_and_lists(runtime: Runtime, name: str) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")
    with importlib.import_module(f"{PACKAGE}.client").Client(runtime.url) as client:
        body = models.ResourceBody(resource_id=name, total_stock=2)
        assert call("stock.set_stock", client=client, body=body).available_stock == 2

        one = models.ReserveResource(resource_id=name, quantity=1)
        held = call("reservations.reserve", client=client, body=one, idempotency_key=f"{name} 1")
        token = models.CommitBody(token=held.token)
        committed = call("reservations.commit", client=client, body=token)
        items = models.ReserveItems(items=[models.ItemBody(resource_id=name, quantity=1)])
        several = call(
            "reservations.reserve", client=client, body=items, idempotency_key=f"{name} 2"
        )
        token = models.ReleaseBody(token=several.token)
        released = call("reservations.release", client=client, body=token)
        refused = call("reservations.commit", client=client, body=models.CommitBody(several.token))
        nine = models.ReserveResource(resource_id=name, quantity=9)
        short = call("reservations.reserve", client=client, body=nine, idempotency_key=f"{name} 3")
        page = call("stock.list_resources", client=client, prefix=name)
        missing = call("stock.read_resource", client=client, resource_id=f"{name}-b")

    assert [view.status for view in (held, committed, several, released)] == [
        models.Status.HELD,
        models.Status.COMMITTED,
        models.Status.HELD,
        models.Status.RELEASED,
    ]
    assert isinstance(refused, models.AlreadyReleasedProblem)
    assert refused.reservation_status is models.Status.RELEASED
    assert isinstance(short, models.OutOfStockProblem)
    assert [(item.requested, item.available) for item in short.items] == [(9, 1)]
    assert [resource.committed_stock for resource in page.resources] == [1]
    assert isinstance(missing, models.ResourceNotFoundProblem)
