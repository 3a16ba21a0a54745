"""Metrics, one a file: quality against a reference, and time."""
