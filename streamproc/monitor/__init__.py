"""What a process tells of itself over HTTP: `/metrics` for Prometheus, `/health` (alive) and `/ready` (able to work).

checks    what `/ready` is made of, and its answer
server    the endpoint of the stages that have no HTTP of their own, and what every stage's metrics hold
"""

from streamproc.monitor.checks import Check, report
from streamproc.monitor.server import Address, Told, build_info, collected, routes, serving

__all__ = ["Address", "Check", "Told", "build_info", "collected", "report", "routes", "serving"]
