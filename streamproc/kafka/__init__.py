"""Kafka itself: the chunked Faust transport, and the real broker that `streamproc dev` and the tests start."""
