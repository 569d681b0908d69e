"""Evaluation protocols: which images make up a task, as folders or published benchmarks have it."""
