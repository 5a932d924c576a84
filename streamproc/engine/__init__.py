"""The engine: the Faust agent that takes readings in, and the connection of the pure core with Kafka."""
