"""Videos the service knows: durations, authors, tags."""
