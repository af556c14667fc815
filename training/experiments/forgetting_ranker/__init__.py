"""`compare forgetting-ranker`: ways of forgetting in the served ranker, next to fits without the rows."""
