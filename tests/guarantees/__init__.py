"""What the service promises, each promise shown on the running program, over HTTP, with real servers."""
