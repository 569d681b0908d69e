"""The demo: adapting to drawings, without a download or a camera."""
