"""Comparing models: the same tasks for all, accuracy with intervals, and what it costs."""
