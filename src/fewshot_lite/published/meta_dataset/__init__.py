"""Meta-Dataset (Triantafillou et al. 2020) as its converters write it, read without TensorFlow.

    RECORDS_ROOT/
        aircraft/  dataset_spec.json  0.tfrecords 1.tfrecords ...   one file per class
        omniglot/  ...

https://github.com/google-research/meta-dataset makes these folders from the original data sets.
"""
