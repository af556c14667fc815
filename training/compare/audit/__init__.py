"""`audit`: what a ranking does to short and long videos, to shown and new ones, and to groups of users."""

from training.compare.audit._audit import audit
from training.compare.audit._world import AuditConfig

__all__ = [
    "AuditConfig",
    "audit",
]
