"""Redis: hints that save time. It is never asked for the truth, and may vanish."""
