"""Logs in, columns out: the readers, the synthetic world, and the splits by time."""

from training.data._interactions import History, Interactions

__all__ = ["History", "Interactions"]
