"""topics.yaml: the declared topics, compared with the broker's and applied.

`load` reads the file; `plan` compares it with the broker; `apply` does what a plan says and nothing else.
"""

from streamproc.topics.admin import apply, check, plan
from streamproc.topics.changes import Alteration, Growth, Plan, TopicState, compare
from streamproc.topics.spec import TopicSpec, load, prefixed

__all__ = [
    "Alteration",
    "Growth",
    "Plan",
    "TopicSpec",
    "TopicState",
    "apply",
    "check",
    "compare",
    "load",
    "plan",
    "prefixed",
]
