"""What is done with a ledger afterwards: verify what was written, find stale keys, fill in past ones."""
