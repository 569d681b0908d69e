"""LITE: unbiased gradients of large support sets in constant memory. `lite.step` is the algorithm.

EfficientNet-Lite, a family of backbones (`networks.efficientnet_lite`), has nothing to do with it.
"""
