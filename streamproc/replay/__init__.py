"""Takes a range of `readings` through the engine again, and compares the result with the database or writes it there.

    request    what is asked for, and its identity, so that the same command resumes an interrupted replay
    span       times to offsets: where reading begins, what is compared, how far the sink has written
    ranges     the registry with other ranges for some sensors
    engine     a partition's state, warmed up and stepped, and the rows that the sink would make of its outputs
    refused    rows that the database has refused, which are in `dead-letter`
    seen       which rows of the database the replay has produced: bits on disk
    journal    progress, differences and counters in a file that survives a kill
    run        the loop: read, step, compare, write, save
    report     the differences, for people and as JSON lines

It writes to no topic, joins no consumer group and leaves the sink's offsets alone.
"""
