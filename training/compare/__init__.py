"""Every method of a kind on one log, with error bars: `python -m training compare`."""
