"""HTTP: bytes in, bytes out. Statuses, documents and rights live here; what they mean is in `core`."""
