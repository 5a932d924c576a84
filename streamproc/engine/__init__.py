"""The engine: the Faust agent that takes in readings, and what surrounds the pure core with Kafka."""
