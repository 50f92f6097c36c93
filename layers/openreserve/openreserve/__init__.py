"""OpenReserve: hold stock, then commit or release it. Unpaid holds expire; it never oversells."""

__version__ = "0.1.0"
