"""One value per thread. Lambda uses one thread; the local server and the tests use several."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

Value = TypeVar("Value")


class PerThread(Generic[Value]):
    """A variable with a value of its own in each thread, created by `create` at the first use."""

    def __init__(self, create: Callable[[], Value]) -> None:
        self._create = create
        self._local = threading.local()

    def get(self) -> Value:
        """The value of this thread."""
        if not hasattr(self._local, "value"):
            self._local.value = self._create()
        return cast("Value", self._local.value)

    def set(self, value: Value) -> None:
        """Replace the value of this thread."""
        self._local.value = value
