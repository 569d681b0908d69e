"""A page and an HTTP API on the user's machine, around the functions of `personal`."""
