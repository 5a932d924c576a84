"""The write side's door: devices post packets over HTTP, and get 202 once Kafka has them.

app         the routes, and the process around them
ingest      one request: key, body, readings, Kafka, answer
load        how much may be in flight, and the bounded reading of a body
access      who may write
intake      pure: a body to the records that go onto the topic, or why it is refused
publisher   records to Kafka, with an acknowledgement for each
answers     what is answered, as types
problems    refusals as problem details (RFC 9457)
metrics     what is counted
"""
