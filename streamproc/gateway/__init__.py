"""The write side's door: devices post packets over HTTP, and get 202 once Kafka has them.

app         the routes, and the process around them
listener    the address: connections within bounds (connections), over TLS where there is a certificate (tls)
protocol    aiohttp's connection, which answers what is no HTTP, too
direct      and readings that came whole by itself, without a task for each
ingest      one request: who sends it, body, readings, Kafka, answer
access      who may write
load        how much may be in flight, and the bounded reading of a body
bodies      pure: types and encodings of bodies, and inflating within bounds
intake      pure: a body to its batch
triage      pure: a body that has faults, item by item: what is right is taken
batch       pure: records for the topic, and a result for each item
publisher   records to Kafka, with an acknowledgement for each
answers     what is answered, as types
status      how a sensor stands, from the database
operations  what each route says of itself; those of the admin API in admin_operations
problems    refusals as problem details (RFC 9457)
metrics     what is counted; for each packet by tallies
"""
