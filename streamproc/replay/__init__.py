"""A range of `readings` through the engine again, beside what the database holds, or written over it.

    request    what is asked for, and its identity: the same command goes on where it was interrupted
    span       times to offsets: where reading begins, what is compared, how far the sink has written
    ranges     the registry with other ranges in the place of its own
    engine     a partition's state warmed up and stepped, and the rows that the sink would make of it
    refused    rows that the database has refused, which are in `dead-letter`
    seen       which rows of the database a replay has given: bits on disk
    journal    progress, differences and counters in a file that outlives a kill
    run        the loop: read, step, compare, write, save
    report     what differs, for people and as JSON lines

It writes to no topic, joins nobody's group and moves none of the sink's offsets.
"""
