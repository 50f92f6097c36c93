"""Parses the body or the query of a request into its model."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from openreserve.domain import errors
from openreserve.http import strict_json
from openreserve.http.schemas.fields import invalid_fields
from openreserve.runtime.settings import settings

_IDENTITY_ENCODINGS = {"", "identity"}

Model = TypeVar("Model", bound=BaseModel)


def read(headers: Mapping[str, str], content: bytes, model: type[Model]) -> Model:
    """The body as the model.

    Raises:
        ContentEncodingUnsupported, ContentTypeUnsupported, BodyTooLarge, BodyMissing,
        BodyMalformed, BodyInvalid: the first that applies, in this order.
    """
    _check_headers(headers)
    if len(content) > settings().body_bytes_max:
        raise errors.BodyTooLarge(bodyBytes=len(content), bodyBytesMax=settings().body_bytes_max)
    if not content.strip():
        raise errors.BodyMissing
    try:
        document = strict_json.parsed(content)
    except ValueError as error:
        raise errors.BodyMalformed from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise errors.BodyInvalid(errors=invalid_fields(error)) from error


def read_query(query: Mapping[str, str], model: type[Model]) -> Model:
    """The query as the model.

    Raises:
        QueryInvalid: a parameter is unknown or invalid.
    """
    try:
        return model.model_validate(query)
    except ValidationError as error:
        raise errors.QueryInvalid(errors=invalid_fields(error)) from error


def _check_headers(headers: Mapping[str, str]) -> None:
    """Reject encoded bodies: neither API Gateway nor this code decodes them."""
    encodings = {name.strip().lower() for name in headers.get("content-encoding", "").split(",")}
    if not encodings <= _IDENTITY_ENCODINGS:
        raise errors.ContentEncodingUnsupported
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise errors.ContentTypeUnsupported(contentType=media_type)
