"""Decides which changes of severity people are told of, and when. Pure, and the same however records are cut into chunks.

times      the weekly times of a silence
silences   the silences in force, found by a sensor's fields
orders     what users have set: policies, silences, and the handling of alarms
state      what is remembered of one sensor
course     what people are told of one sensor at one moment, and when to look again
moments    when a change is noticed, by the partition's clock
bank       all sensors of a partition
step       a step's events, and the notifications that come of them

Time here is the partition's clock, that of its records, as for the rule `no_data`: a reminder is due an hour after people
were told, whatever a device's own clock says, and silent sensors are reminded of as well. What is due at a time happens with
the first record whose clock has reached it, or with a tick where no record comes. So the result does not depend on how the
records are cut, who reads them, or how often.
"""
