"""The images, the topology, its alerts and its dashboard, as far as they can be checked without Docker."""
