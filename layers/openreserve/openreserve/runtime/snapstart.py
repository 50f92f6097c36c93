"""What SnapStart must not copy into every environment that it restores: connections, and chance.

Importing a handler opens nothing, so nothing is open when Lambda takes the snapshot. Should
anything be, it is closed: it would be everybody's, and so would what its TLS library had drawn.
"""

import random
from collections.abc import Callable

_disconnects: set[Callable[[], None]] = set()


def opened(disconnect: Callable[[], None]) -> None:
    """Something was connected that this closes. Saying so again changes nothing."""
    _disconnects.add(disconnect)


def register() -> None:
    """Have Lambda close what is open before a snapshot, and draw chance anew after a restore.

    Tokens, ids and times need nothing: they are made when they are used, ids of what the system
    draws. Does nothing where the hooks are missing, which Lambda's own Python brings along.
    """
    try:
        import snapshot_restore_py as hooks  # noqa: PLC0415 - it may be missing
    except ImportError:
        return
    hooks.register_before_snapshot(_close)
    hooks.register_after_restore(random.seed)


def _close() -> None:
    for disconnect in _disconnects:
        disconnect()
