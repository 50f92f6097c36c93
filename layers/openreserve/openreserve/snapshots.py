"""What SnapStart must not copy into every environment that it restores: connections and chance.

Nothing connects before the first call, hence nothing is open when the snapshot is taken. This sees
to it though: a copied connection would be everybody's, and so would what a TLS library had drawn.
"""

import random
from collections.abc import Callable


def register(*disconnects: Callable[[], None]) -> None:
    """Let Lambda call these before it takes a snapshot, and draw chance anew after it restored one.

    Tokens and ids need nothing: they are made when they are used, the ids of what the system draws.
    Does nothing outside of Lambda's own Python, which brings the hooks along.
    """
    try:
        import snapshot_restore_py as lambda_hooks  # noqa: PLC0415 - it may be missing
    except ImportError:
        return
    for disconnect in disconnects:
        lambda_hooks.register_before_snapshot(disconnect)
    lambda_hooks.register_after_restore(random.seed)
