"""See `benchmarks`."""
