"""Command lines: `spark-flow`, and those of jobs, runners and streams."""
