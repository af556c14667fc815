"""Processes and sockets: a worker, the supervisor of several, and HTTP/1.1 on the wire."""
