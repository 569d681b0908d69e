"""Export a personal model to one file that runs without fewshot-lite, and check its answers.

The exported network takes pixels, uint8 (batch, S, S, 3) in RGB, as `numpy.asarray` of a Pillow
image has them, and gives

    probabilities   float32 (batch, K)   of the classes
    strangeness     float32 (batch,)     above a threshold: a photo of none of the classes

Scaling, means and deviations are part of it. The file has a description; see `describe_export`.

Set ORT_DISABLE_TELEMETRY=1 in the environment before a program imports onnxruntime, which otherwise
reports its use over the network from version 1.32 on. (This package sets it itself.)
"""
