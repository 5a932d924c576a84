"""`streamproc notify`: tells people of changes of severity, by webhook, e-mail and log.

channels   the interface of a channel: it takes a message, and says how that went
console    writes a log line for each change
webhook    JSON by POST, signed
mail       e-mail by SMTP
wording    a message in words
sender     the loop of one channel: plan, claim, send, write down
health     the state of the channels, for `/ready` and `/metrics`
app        the process
sample     `--test`: a message which says that nothing has happened
again      `failed` and `resend`: messages that could not be delivered in time

It works from the rows that the sink writes to `alert_notifications`, not from the topic `notifications`. Whether something
was told must outlive every process and be known to all of them, so it is a row in the database beside the notification, and
one transaction sees both. A consumer group would be a second position that may disagree, would hold up a partition while one
receiver is away, and cannot record what was sent on which channel. The price is one query a second.
"""
