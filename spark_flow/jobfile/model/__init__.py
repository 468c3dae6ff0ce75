"""What the entries of a job file share, and the file as a whole."""
