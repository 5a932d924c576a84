"""streamproc: an asyncio stream-processing engine for sensor data, on Faust and Kafka.

The parts, in the order that a reading meets them:

    gateway    devices post packets; the answer comes once they are on the topic `readings`
    kafka      the chunked Faust transport, and the real broker that `streamproc dev` and the tests start
    topics     topics.yaml, compared with the broker and applied to it
    engine     the Faust agent: decodes a chunk, steps the core, sends the outputs, takes checkpoints
    worker     the engine's process, also for Faust's own command
    core       pure: codec, windows, learners, severity, explanations. No I/O, clock, log or randomness
    sink       writes rows and the next offsets into the database, in one transaction
    notify     tells people by webhook, e-mail and log; the database remembers what was told
    console    the live page and the read API
    jobs       scheduled work beside the stream, such as deleting old rows
    store      the databases that the sink can write to
    registry   devices, sensors and their ranges: kept in the database, distributed by a topic
    trials     rules and learners' numbers tried beside the live ones: added, compared, promoted
    dlq        dead letters: listed, explained, sent again after a fix
    monitor    what each process reports over HTTP: metrics, health, readiness
    openapi    the OpenAPI document of the gateway and the console, and its page
    detect     the same core over a file
    dev        everything on one machine, supervised, with a simulator
    replay     a range of readings through the same core again, compared with the database
    explain    one event, recomputed from the records that it came from
    bench      measures the figures in the README
    cli        the commands; the only place that puts concrete parts together
    process    what all processes share: exit codes, the clock, the garbage collector's pace
    settings   the only reader of the environment
    records    the values that cross between stages
    errors     the tree of errors

Stages meet only as records on topics. Imports point down, never up (`pyproject.toml`, importlinter).
"""

__version__ = "0.1.0"
