"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes is the machine's affair: with others' work beside it, any takes seconds now and then.
settings.register_profile("streamproc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamproc")
