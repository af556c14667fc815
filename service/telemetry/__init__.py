"""What an operator can see of a running service."""
