"""The pure core: no I/O, clock, log or randomness. The same records in the same order give the same results."""
