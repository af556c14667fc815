"""The served log, as the service writes it: `models.served_log` says what is in it."""
