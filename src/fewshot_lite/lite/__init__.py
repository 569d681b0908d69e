"""LITE: unbiased gradients of large support sets in constant memory. `step` is the algorithm."""
