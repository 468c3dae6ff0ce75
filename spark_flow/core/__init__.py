"""Code without Spark and storage: names, fingerprints, completeness, arrival rules, clock, secrets, notifications."""
