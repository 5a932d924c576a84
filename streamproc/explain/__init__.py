"""Explains a past event: finds it, recomputes it from the records that it came from, and reports.

    find        the event by its id: in the database, or on the topic `events`
    source      where its records are read from: a snapshot before them, or the topic's beginning
    recompute   runs the engine's core over these records until the event comes out again; pure
    reasons     whether the result is the same, and why it may not be
    report      the findings, for people and as JSON

It writes nothing and joins no consumer group.
"""
