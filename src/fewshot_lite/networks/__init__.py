"""Backbones and their weights, FiLM in norm layers, set encoders, and networks cut in stages."""
