"""Data sets and episodes: stores of resized images, augmentation, sampling of tasks."""
