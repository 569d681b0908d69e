"""Evaluation protocols, which determine the images of each task: the interface, and folders."""
