"""streamproc: an asyncio stream-processing engine for sensor data, on Faust and Kafka.

The parts, in the order that a reading meets them:

    gateway    devices post packets; they are on the topic `readings` before the answer is sent
    kafka      the chunked Faust transport, and the real broker that `streamproc dev` and the tests start
    topics     topics.yaml, and what of it the broker does not have yet
    engine     the Faust agent: decodes a chunk, steps the core, sends what comes out, checkpoints
    worker     the engine's process, for Faust's own command as well
    core       pure: codec, windows, learners, severity, explanations. No I/O, clock, log or chance
    sink       rows and the next offsets into the database, in one transaction
    notify     people are told: webhook, e-mail, log; what was told is in the database
    console    people look: a live page and an API, read only
    jobs       scheduled work beside the stream: old rows away
    store      the databases that the sink can write to
    registry   devices, sensors and their ranges: home in the database, carried by a topic
    trials     rules and learners' numbers beside the live ones: put on, compared with what was told, made live
    dlq        what is on the topic `dead-letter`, why, and sent again after a fix
    monitor    what each process tells of itself over HTTP: metrics, alive, ready
    openapi    what the gateway and the console say of their routes, as OpenAPI and as a page
    detect     the same core over a file
    dev        everything on one machine, supervised, with a simulator
    replay     a range of readings through the same core again, beside what the database holds
    explain    one event, made once more of the records that it came from, and told
    bench      the figures in the README, measured again
    cli        the commands; the only place that puts concrete parts together
    process    exit codes, and how often garbage is looked for
    settings   the only reader of the environment
    records    what crosses between stages
    errors     the tree of errors

Stages meet only as records on topics. Imports point down, never up (`pyproject.toml`, importlinter).
"""

__version__ = "0.1.0"
