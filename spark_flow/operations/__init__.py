"""Operations on recorded runs: verify written data, find stale keys, backfill them."""
