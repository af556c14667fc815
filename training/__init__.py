"""Offline: logs in, bundles out. Imports `models`, never `service`."""
