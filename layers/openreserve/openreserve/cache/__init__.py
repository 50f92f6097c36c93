"""Redis as a cache of hints. It is never the source of truth, and may be unavailable or empty."""
