"""Evaluation: predictions of a ranker or a bundle, metrics on a window of days, statistics."""
