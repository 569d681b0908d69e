"""Heads: classifiers on features, one file each, all subclasses of `base.Head`.

`registry` has them by name, `choice` chooses the head of a personal model, and `calibrated` sets
its temperature.
"""
