"""What a process holds while it runs: the current bundle, the catalogue, the unlearning ledger."""
