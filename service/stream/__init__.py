"""Labels for a stream of events: the consumer and the stream it reads."""
