"""The demo: a personaliser at work without a download or a camera."""
