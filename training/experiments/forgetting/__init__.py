"""`compare forgetting`: ways of forgetting rows, each against a fit without them."""
