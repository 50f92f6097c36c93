"""The value of an option that is an id, or the beginning of ids: by the rule of the API."""

import click

from openreserve.domain.resources import normalized_prefix, normalized_resource_id


class ResourceId(click.ParamType):
    """The id of a resource."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id in its one form, or a failure."""
        try:
            return normalized_resource_id(value)
        except ValueError as wrong:
            self.fail(f"an id {wrong}.", param, ctx)


class ResourcePrefix(click.ParamType):
    """The beginning of ids."""

    name = "prefix"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The beginning in its one form, or a failure."""
        try:
            return normalized_prefix(value)
        except ValueError as wrong:
            self.fail(f"an id {wrong}.", param, ctx)
