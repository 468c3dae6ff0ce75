"""The one primitive and what it stands on: a run, its nodes, their history, lazy frames, reading and writing."""
