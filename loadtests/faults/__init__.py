"""What the service does while something breaks: scenarios, and the proxy that breaks connections."""
