"""Reads what a request carries, its body or its query, into a model of it."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from openreserve.domain import errors
from openreserve.http import strict_json
from openreserve.http.schemas.fields import faults
from openreserve.runtime.settings import settings

_AS_IT_IS = {"", "identity"}

Model = TypeVar("Model", bound=BaseModel)


def read(headers: Mapping[str, str], content: bytes, model: type[Model]) -> Model:
    """The body as the model.

    Raises:
        ContentEncodingUnsupported, ContentTypeUnsupported, BodyTooLarge, BodyMissing,
        BodyMalformed, BodyInvalid: what the names say, the first that applies.
    """
    _check_headers(headers)
    if len(content) > settings().body_bytes_max:
        raise errors.BodyTooLarge(bodyBytes=len(content), bodyBytesMax=settings().body_bytes_max)
    if not content.strip():
        raise errors.BodyMissing
    try:
        document = strict_json.parsed(content)
    except ValueError as malformed:
        raise errors.BodyMalformed from malformed
    try:
        return model.model_validate(document)
    except ValidationError as invalid:
        raise errors.BodyInvalid(errors=faults(invalid)) from invalid


def read_query(query: Mapping[str, str], model: type[Model]) -> Model:
    """The query as the model.

    Raises:
        QueryInvalid: a parameter is unknown or not of its form.
    """
    try:
        return model.model_validate(query)
    except ValidationError as invalid:
        raise errors.QueryInvalid(errors=faults(invalid)) from invalid


def _check_headers(headers: Mapping[str, str]) -> None:
    """API Gateway hands an encoded body over as it came, so nothing here decodes one either."""
    encoding = headers.get("content-encoding")
    if encoding and not {coding.strip().lower() for coding in encoding.split(",")} <= _AS_IT_IS:
        raise errors.ContentEncodingUnsupported
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise errors.ContentTypeUnsupported(contentType=media_type)
