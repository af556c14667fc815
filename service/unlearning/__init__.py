"""The unlearning ledger: users who asked to be forgotten."""
