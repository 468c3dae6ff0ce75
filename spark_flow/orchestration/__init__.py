"""Orchestration (the book's section 5): leases and pools, calendars, the single and the concurrent runner."""
