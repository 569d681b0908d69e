"""Backbones and their weights, FiLM, set encoders, and backbones run in stages."""
