"""Meta-Dataset (Triantafillou et al. 2020) as its converters write it, read without TensorFlow.

    RECORDS_ROOT/
        aircraft/  dataset_spec.json  0.tfrecords 1.tfrecords ...   one file per class
        omniglot/  ...

https://github.com/google-research/meta-dataset makes these folders from the original data sets.
"""

from fewshot_lite.published.meta_dataset.describe import describe
from fewshot_lite.published.meta_dataset.reader import (
    is_meta_dataset,
    open_class,
    read_specs,
    scan_meta_dataset,
)
from fewshot_lite.published.meta_dataset.sampler import (
    Composition,
    CompositionSampler,
    EpisodeRules,
)
from fewshot_lite.published.meta_dataset.spec import SPLIT_NAMES, SPLITS, DataSetSpec, read_spec

__all__ = [
    "SPLITS",
    "SPLIT_NAMES",
    "Composition",
    "CompositionSampler",
    "DataSetSpec",
    "EpisodeRules",
    "describe",
    "is_meta_dataset",
    "open_class",
    "read_spec",
    "read_specs",
    "scan_meta_dataset",
]
