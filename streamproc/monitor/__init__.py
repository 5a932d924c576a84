"""What a process reports over HTTP: `/metrics` for Prometheus, `/health` (alive) and `/ready` (able to work).

checks    what `/ready` consists of, and its answer
server    the HTTP endpoint of stages without one of their own, and the metrics common to all stages
standing  whether the database answers, and waiting for it
"""

from streamproc.monitor.checks import Check, report
from streamproc.monitor.server import Address, Told, build_info, collected, routes, serving

__all__ = ["Address", "Check", "Told", "build_info", "collected", "report", "routes", "serving"]
