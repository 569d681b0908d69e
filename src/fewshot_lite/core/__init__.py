"""The foundation of every room: errors, files written whole, checkpoints, devices."""
