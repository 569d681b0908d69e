"""Meta-training and supervised pre-training: configuration, loop, state, log and ranks."""
