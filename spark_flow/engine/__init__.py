"""The one primitive, ``once``, and its parts: runs, nodes, their history, lazy frames, reading and writing."""
