"""The running service against its own description, and against bytes that follow none."""
