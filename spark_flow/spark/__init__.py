"""Spark itself: sessions with Delta, the jars that they need, a class-data archive, spark-submit."""
