"""Publishing of events and delivery to webhook endpoints."""
