"""The personal model: adapting to a folder of photos, classifying, editing, exporting."""
