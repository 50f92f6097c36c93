"""A function that cannot be imported."""

raise RuntimeError("this function cannot start")
