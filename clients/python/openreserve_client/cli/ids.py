"""Option types for resource ids and prefixes of them, validated by the API's rules."""

import click

from openreserve_client.resource_ids import normalized_prefix, normalized_resource_id


class ResourceId(click.ParamType):
    """A resource id."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Normalize the id, or fail with a usage error."""
        try:
            return normalized_resource_id(value)
        except ValueError as error:
            self.fail(f"an id {error}.", param, ctx)


class ResourcePrefix(click.ParamType):
    """A prefix of resource ids."""

    name = "prefix"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Normalize the prefix, or fail with a usage error."""
        try:
            return normalized_prefix(value)
        except ValueError as error:
            self.fail(f"an id {error}.", param, ctx)
