"""Bundles in memory: loading, checking, serving, canary, shadow, batching on a GPU."""
