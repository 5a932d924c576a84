"""The gateway: devices post packets over HTTP, and get 202 once Kafka has them.

app         the routes, and the process around them (workers: several on one port; siblings: they report as one)
listener    the address: bounded connections (connections), with TLS where there is a certificate (tls)
protocol    aiohttp's connection, made to answer broken HTTP with a problem
guard       every request is answered and counted; readings take the short way to direct
direct      readings that arrived whole, answered without an aiohttp task
ingest      one request: sender, body, readings, Kafka, answer
access      who may write
load        how much may be in flight, and reading a body within that bound
bodies      pure: types and encodings of bodies, inflated within bounds (inflation: in a thread, where that takes long)
intake      pure: a body to its batch
triage      pure: a body with faults, item by item: what is right in it is taken
batch       pure: records for the topic, and a result for each item
publisher   records to Kafka, each with its acknowledgement (rounds: those of many requests in one batch)
answers     the answers, as types
status      how a sensor stands, from the database
admin       the admin API of the registry
operations  what each route says of itself in the OpenAPI document
problems    refusals as problem details (RFC 9457)
metrics     the counters; tallies counts each packet
"""
