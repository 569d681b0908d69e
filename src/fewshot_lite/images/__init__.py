"""From one photo file to one square of pixels; folders of photos, and what is wrong with them."""
