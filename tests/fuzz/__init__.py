"""Whatever is sent to a real gateway: no 500, no hang, nothing on the topic that the engine does not decode.

schema   requests made of the OpenAPI document, by schemathesis; the answers are held against it
wire     bodies and whole requests that are nearly right, as bytes
topic    what is on the topic afterwards
"""
