"""Classify any number of photos in constant memory.

    from fewshot_lite import PersonalModel
    from fewshot_lite.personal.bulk import Outputs, classify_files, find_photos

    model = PersonalModel.load("personal.safetensors")
    outputs = Outputs(csv=Path("out.csv"), sort_into=Path("sorted"))
    photos = find_photos([Path("photos")], leave_out=outputs.paths)
    tally = classify_files(model, photos, outputs)

Answers come in the order of the files. This does not import torch.
"""

from __future__ import annotations

from fewshot_lite.personal.bulk.inputs import find_photos, read_paths
from fewshot_lite.personal.bulk.outputs import Outputs
from fewshot_lite.personal.bulk.running import Tally, check_watched, classify_files, watch_folders

__all__ = [
    "Outputs",
    "Tally",
    "check_watched",
    "classify_files",
    "find_photos",
    "read_paths",
    "watch_folders",
]
