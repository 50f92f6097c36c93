"""The rules of the domain. Pure: no clock, no randomness, no I/O."""
