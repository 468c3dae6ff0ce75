"""One file per pattern of a job file."""
