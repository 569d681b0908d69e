"""LITE: unbiased gradients of large support sets in constant memory. `lite.step` is the algorithm.

It is unrelated to EfficientNet-Lite, a family of backbones (`networks.efficientnet_lite`).
"""
