"""From folders of photos to tensors: decoding, folders, data sets, augmentation, episodes."""
