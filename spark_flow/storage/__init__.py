"""Where frames come from and go: sources, sinks, boundaries, and the files beside them."""
