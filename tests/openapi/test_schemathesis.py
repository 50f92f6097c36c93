"""Generated requests get the responses of the OpenAPI document."""

import pytest

from tests.e2e.runtime import Runtime
from tests.openapi.tools import DOCUMENT, FILES, PYTHON_TOOLS, installed, output_of


@pytest.mark.slow
def test_a_thousand_generated_requests_get_documented_responses(
    runtime: Runtime, pytestconfig: pytest.Config
) -> None:
    schemathesis = installed(PYTHON_TOOLS / "schemathesis", pytestconfig)
    said = output_of(
        *(schemathesis, "--config-file", FILES / "schemathesis.toml"),
        *("run", DOCUMENT, "--url", runtime.url),
    )

    assert "Tested: 20" in said
