"""`streamproc jobs`: the scheduled work beside the stream.

schedule    when a job is due, by its schedule and its runs so far: pure
catalogue   the jobs that there are
cleanup     old rows away
work        what a run's work is given: the database, its counts, and word that it is to end
runner      one run: claim the job, hold it, work, write down how it ended
desk        looks again and again what is due, and has it run
health      how the jobs stand, for `/ready` and `/metrics`
app         the process
commands    `streamproc jobs`, `list`, `run`

When a job ran and how that ended is in the database (`job_runs`), for it must outlive every process and be known to all of
them: so several processes run a job once, a run that was missed is made up, and one whose process was killed is taken over.
A scheduler inside a process (APScheduler) has none of that. What is left is when a cron expression comes round in a time
zone, on days of 23 and 25 hours too: cronsim is that and nothing else, and goes by Debian's cron.

A job that is added is a module with its work and an entry in `catalogue`. Its work does no harm where it is done twice, even
beside itself: a process that stood still for longer than its lease goes on until it hears of that.
"""
