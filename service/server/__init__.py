"""Processes and sockets: the worker, the supervisor of several workers, HTTP/1.1 on the wire."""
