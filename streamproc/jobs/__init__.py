"""`streamproc jobs`: scheduled work beside the stream.

schedule    when a job is due, by its schedule and its past runs: pure
catalogue   the list of jobs
cleanup     deletes old rows
work        what a job's code is given: the database, counters, and word when it must end
runner      one run: claim the job, hold it, do the work, write down how it ended
desk        looks regularly for what is due, and runs it
health      the state of the jobs, for `/ready` and `/metrics`
app         the process
commands    `streamproc jobs list` and `run`

Runs and their outcomes are rows of `job_runs`, because they must outlive every process and be known to all of them. So
several processes run a job once, a missed run is made up, and another process takes over from one that was killed. A
scheduler inside a process (APScheduler) does none of that. What is left is to find the next time of a cron expression in a
time zone, on days of 23 and 25 hours too: cronsim does that and nothing else, by the rules of Debian's cron.

To add a job, write a module with its work and an entry in `catalogue`. The work must do no harm if it runs twice, even at the
same time: a process that stood still for longer than its lease goes on until it notices.
"""
