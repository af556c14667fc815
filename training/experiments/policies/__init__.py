"""`compare policies`: long-term value learned offline, where the truth is known and on a log."""
