"""Load at a constant arrival rate, as users bring it: they do not wait for each other's answers."""
