"""Command lines of `spark-flow`, jobs, runners and streams."""
