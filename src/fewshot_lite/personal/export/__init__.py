"""Personal models for elsewhere: one file that runs without fewshot-lite, its answers checked.

What is written takes pixels, uint8 (batch, S, S, 3) in RGB, as `numpy.asarray` gives them of a
Pillow image, and gives

    probabilities   float32 (batch, K)   of the classes
    strangeness     float32 (batch,)     above a threshold: a photo of none of the classes

Scaling, means and deviations are inside. The file describes itself; see `description`.
"""
