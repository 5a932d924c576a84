"""Which changes of severity people are told of, and when: pure, and the same however records are cut into chunks.

times      the weekly times of a silence
silences   the silences in force, found by what a sensor has
orders     what users say of how they are told: policies, silences, and how alarms are handled
state      what is remembered of one sensor
course     what is told of one sensor at one moment, and when to look again
moments    when a change is noticed, by the partition's clock
bank       all of a partition's sensors
step       the events of a step, and what people are told of them

Time here is the partition's clock, that of its records, as for the rule `no_data`: a reminder is due an hour after people
were told, however a device's own clock runs, and a sensor that is silent is reminded of as well. What is due at a time
happens with the first record whose clock has reached it. So it is no matter how the records are cut, who reads them, and how
often; where nothing comes, a tick comes once something is due.
"""
