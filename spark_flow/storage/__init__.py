"""Sources, sinks, checkpoints, markers, and the files that belong to them."""
