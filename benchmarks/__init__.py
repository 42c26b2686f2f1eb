"""Every number in RESULTS.md, as a command: ``python -m benchmarks.throughput``, ..."""
