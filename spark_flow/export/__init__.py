"""A job's file as tasks of an orchestrator: AWS Step Functions, steps of EMR, Azure Data Factory."""
