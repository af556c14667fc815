"""Look at a log before anything is fitted: its faults, a profile, and what it allows. Imports no torch."""
