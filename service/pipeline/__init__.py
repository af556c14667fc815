"""What the endpoints compute: events to labels, candidates to a slate. No HTTP, no Redis, no files."""
