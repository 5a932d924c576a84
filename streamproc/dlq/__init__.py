"""Dead letters: what is on the topic `dead-letter`, why, and sent again after a fix.

`found` reads records, `index` keeps what is told of them, `reader` is the way to Kafka, `resend` makes the record to be
sent of a letter, `redrive` sends and marks, `view` words what people see.
"""
