"""What the endpoints compute: admission of events, labels, slates. No HTTP, no Redis, no files."""
