"""Readers and protocols of the published benchmarks: Meta-Dataset, ORBIT and VTAB-v2."""
