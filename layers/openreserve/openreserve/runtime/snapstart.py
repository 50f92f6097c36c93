"""Hooks of Lambda SnapStart: close connections before a snapshot, reseed `random` after a restore.

Importing a handler opens no connection, so none should be open at the snapshot. One that is open is
closed: all restored environments would share it, and the random state of its TLS session.
"""

import random
from collections.abc import Callable

_disconnects: set[Callable[[], None]] = set()


def opened(disconnect: Callable[[], None]) -> None:
    """Register a function that closes connections of this process. A repeat changes nothing."""
    _disconnects.add(disconnect)


def register() -> None:
    """Register the hooks with Lambda's runtime. No effect where it has none.

    Tokens, ids and times need no hook: they are created when used, and ids come from the operating
    system's random source.
    """
    try:
        import snapshot_restore_py as hooks  # noqa: PLC0415 - only Lambda's runtime has it
    except ImportError:
        return
    hooks.register_before_snapshot(_close)
    hooks.register_after_restore(random.seed)


def _close() -> None:
    for disconnect in _disconnects:
        disconnect()
