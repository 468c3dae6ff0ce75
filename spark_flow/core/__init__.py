"""What has no Spark and no storage in it: names, fingerprints, completeness, arrival rules, the clock, secrets."""
