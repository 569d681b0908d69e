"""A page and an HTTP API on a person's own machine, around the functions of `personal`."""
