"""The public surface, pinned: what clients, dashboards and scripts rely on, as golden files."""
