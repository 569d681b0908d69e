"""Which layers to update in adaptation: the search for a pattern, and where it is kept."""
