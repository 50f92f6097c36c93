"""Response bodies of the health check and of errors."""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from openreserve.http.schemas.fields import Json, one_of


class HealthView(Json):
    """`status`: ok, degraded (slower, without loss of data or function) or unavailable."""

    status: Annotated[str, one_of("HealthStatus", "ok", "degraded", "unavailable")]
    postgres: Annotated[str, one_of("PostgresStatus", "ok", "unavailable")]
    redis: Annotated[str, one_of("RedisStatus", "ok", "unavailable", "not configured")]


class Problem(BaseModel):
    """A problem document (RFC 9457). Further members depend on the `code`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="The stable error code, for programs.")
    request_id: str = Field(alias="requestId", description="The id of the request in the logs.")
