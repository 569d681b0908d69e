"""Heads: support features and labels to statistics, statistics and query features to logits.

One file a head, each behind `base.Head`; `registry` knows them by name, `choice` picks the one of a
personal model and `calibrated` sets its temperature.
"""
