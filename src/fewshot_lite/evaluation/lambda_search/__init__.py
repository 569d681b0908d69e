"""The search for a Lambda pattern: the layers to update in adaptation."""
