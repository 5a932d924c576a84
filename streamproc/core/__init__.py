"""The pure core: no I/O, clock, log or chance. Same records in the same order, same results."""
