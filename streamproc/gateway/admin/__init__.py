"""The admin API: the registry over HTTP, for whoever has the admin key.

routes      sensors, devices and their keys, recommended actions, the audit
documents   policies, silences and trials, which all work alike
alarms      sensors that are not NORMAL: acknowledge, snooze
desk        what all routes share: the key, the body, a look at the registry, an edit
access      the admin key
service     the database and the Kafka producer, opened when they are first needed
answers     names, versions and pages of a request; entries and refusals as answers
operations  what each route says of itself in the OpenAPI document; document_operations: those of documents and alarms
"""
