"""Foundation of the other packages: errors, atomic writes, checkpoints, devices, random streams."""
