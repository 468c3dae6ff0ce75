"""What a person sees of a run: progress, the ledger's tables."""
