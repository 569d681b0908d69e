"""Personal models for elsewhere: one file that runs without fewshot-lite, its answers checked.

What is written takes pixels, uint8 (batch, S, S, 3) in RGB, as `numpy.asarray` gives them of a
Pillow image, and gives

    probabilities   float32 (batch, K)   of the classes
    strangeness     float32 (batch,)     above a threshold: a photo of none of the classes

Set ORT_DISABLE_TELEMETRY=1 in the environment before a program imports onnxruntime: from version
1.32 on it reports its use over the network otherwise. (This package does so itself.)

Scaling, means and deviations are inside. The file describes itself; see `description`.
"""
