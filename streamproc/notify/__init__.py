"""`streamproc notify`: tells people of changes of severity, by webhook, e-mail and log.

channels   what a channel is: it takes a message, and says how that went
console    a line of the log for each change
webhook    JSON by POST, signed
mail       e-mail by SMTP
wording    a message in words
sender     one channel's work: plan, claim, send, write down; again and again
health     how the channels stand, for `/ready` and `/metrics`
app        the process
sample     `--test`: a message that says that nothing has happened

The work is what the sink has written to `alert_notifications`, not the topic `notifications`. Whether something was told must
outlive every process and be known to all of them: that is a row in the database, where the notification is as well, so that
one transaction sees both. A consumer group would keep a second position that can say otherwise, would hold up a partition
while one receiver is away, and cannot tell what was sent on which channel. It costs a look a second.
"""
