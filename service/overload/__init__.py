"""Admission control: how much work a worker accepts, and how busy its event loop is."""
