"""Benchmarks, one idea a file: each has a `measure(options)` that gives records, and a goal to hold them against."""
