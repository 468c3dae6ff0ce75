"""Data flow design patterns for PySpark and Delta Lake that survive a kill."""
