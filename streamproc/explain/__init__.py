"""One event of the past: found, made once more of the records that it came from, and told.

    find        the event by its id: in the database, or on the topic `events`
    source      where its records are read from: a snapshot before them, or the topic's beginning
    recompute   the engine's core over these records until the event comes out again; pure
    reasons     whether it is the same, and why it may not be
    report      what was found, for people and as JSON

It writes nowhere and joins nobody's group.
"""
