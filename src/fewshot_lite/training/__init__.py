"""Meta-training, supervised pre-training and tuning: configuration, loop, state and log."""
