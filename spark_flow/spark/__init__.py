"""Spark itself: a session with Delta, the jars it needs, a class-data archive, spark-submit."""
