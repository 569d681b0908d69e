"""Data sets and episodes: resized images in memory or on disk, augmentation, sampling of tasks."""
