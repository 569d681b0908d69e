"""The scripts that make the figures of the documentation; run from the root of a checkout.

    python -m benchmarks.accuracy.unbalanced default DATA --rare 2 --tasks 20

`accuracy` is about how well things are told apart, `cost` about seconds and memory, `reliability`
about what goes wrong. Each script prints one JSON object with the machine, versions and arguments,
the seed among them.
"""
