"""Few-shot personalisation: adapt to a person's own photos in one forward pass."""

__version__ = "0.1.0"
