"""Request and response bodies: fields, types and limits. The source of the OpenAPI document."""
