"""Evaluation protocols, which determine the images of each task; this room has those of folders."""
