"""The table of the 18 tasks (group, source, layout on disk), and the search for them in a folder.

VTAB-v2 is VTAB (Zhai et al. 2019, arXiv 1910.04867) without DTD, which Meta-Dataset trains on
(Dumoulin et al. 2021, arXiv 2104.02638). Tasks and groups are those of the LITE paper's code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.published.vtab import natural, specialized, structured
from fewshot_lite.published.vtab.exported import FOLDERS, LISTS, from_class_folders, from_lists
from fewshot_lite.published.vtab.pool import Splits
from fewshot_lite.published.vtab.structured import dmlab

GROUPS = ("natural", "specialized", "structured")


@dataclass(frozen=True)
class VtabTask:
    """A task, and the layout of its published files."""

    name: str
    group: str
    classes: int
    exported: str
    """Its folder among the VTAB-1k lists."""
    url: str
    folders: tuple[str, ...]
    """Possible folders of its files under the root; messages recommend the first."""
    needs: tuple[str, ...]
    """Patterns of the unpacked files that such a folder must hold."""
    read: Callable[[Path], Splits]


_CLEVR = (
    "https://cs.stanford.edu/people/jcjohns/clevr/ (CLEVR_v1.0.zip)",
    ("clevr/CLEVR_v1.0", "CLEVR_v1.0"),
    (
        "images/train",
        "images/val",
        "scenes/CLEVR_train_scenes.json",
        "scenes/CLEVR_val_scenes.json",
    ),
)
_DSPRITES = (
    "https://github.com/google-deepmind/dsprites-dataset",
    ("dsprites", "dsprites-dataset"),
    ("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",),
)
_SMALLNORB = (
    "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/ (gunzip the files)",
    ("smallnorb",),
    tuple(
        f"smallnorb-{instances}x9x18x6x2x96x96-{kind}.mat"
        for instances, split in (("5x46789", "training"), ("5x01235", "testing"))
        for kind in (f"{split}-dat", f"{split}-info")
    ),
)

TASKS = (
    VtabTask(
        "caltech101", "natural", 102, "caltech101",
        "https://data.caltech.edu/records/mzrjq-6wc02 (caltech-101.zip, and in it "
        "101_ObjectCategories.tar.gz)",
        ("caltech101", "caltech-101"), ("101_ObjectCategories",), natural.caltech101,
    ),
    VtabTask(
        "cifar100", "natural", 100, "cifar",
        "https://www.cs.toronto.edu/~kriz/cifar.html (cifar-100-binary.tar.gz; the Python version "
        "is pickled and not read)",
        ("cifar-100-binary",), ("train.bin", "test.bin", "fine_label_names.txt"), natural.cifar100,
    ),
    VtabTask(
        "flowers102", "natural", 102, "oxford_flowers102",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (102flowers.tgz and two .mat files)",
        ("flowers-102", "flowers102"), ("jpg", "imagelabels.mat", "setid.mat"), natural.flowers102,
    ),
    VtabTask(
        "pets", "natural", 37, "oxford_iiit_pet",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/ (images.tar.gz, annotations.tar.gz)",
        ("oxford-iiit-pet", "oxford_iiit_pet"),
        ("images", "annotations/trainval.txt", "annotations/test.txt"), natural.pets,
    ),
    VtabTask(
        "sun397", "natural", 397, "sun397",
        "https://vision.princeton.edu/projects/2010/SUN/ (SUN397.tar.gz)",
        ("SUN397",), ("ClassName.txt",), natural.sun397,
    ),
    VtabTask(
        "svhn", "natural", 10, "svhn",
        "http://ufldl.stanford.edu/housenumbers/ (train_32x32.mat, test_32x32.mat)",
        ("svhn", "SVHN", "."), ("train_32x32.mat", "test_32x32.mat"), natural.svhn,
    ),
    VtabTask(
        "retinopathy", "specialized", 5, "diabetic_retinopathy",
        "https://www.kaggle.com/c/diabetic-retinopathy-detection/data (train.zip, test.zip, "
        "trainLabels.csv) and https://storage.googleapis.com/kaggle-forum-message-attachments/"
        "90528/2877/retinopathy_solution.csv",
        ("diabetic-retinopathy-detection", "diabetic_retinopathy_detection"),
        ("train", "test", "trainLabels.csv", "retinopathy_solution.csv"), specialized.retinopathy,
    ),
    VtabTask(
        "eurosat", "specialized", 10, "eurosat",
        "https://github.com/phelber/eurosat (EuroSAT.zip, RGB)",
        ("eurosat", "EuroSAT"), ("2750",), specialized.eurosat,
    ),
    VtabTask(
        "resisc45", "specialized", 45, "resisc45",
        "https://gcheng-nwpu.github.io/ (NWPU-RESISC45.rar)",
        ("NWPU-RESISC45",), ("*/*.jpg",), specialized.resisc45,
    ),
    VtabTask(
        "camelyon", "specialized", 2, "patch_camelyon",
        "https://zenodo.org/records/2546921 (PatchCamelyon, six .h5.gz files; gunzip them)",
        ("pcam", "patch_camelyon"),
        tuple(
            f"camelyonpatch_level_2_split_{split}_{kind}.h5"
            for split in ("train", "valid", "test")
            for kind in "xy"
        ),
        specialized.camelyon,
    ),
    VtabTask("clevr-distance", "structured", 6, "clevr_dist", *_CLEVR, structured.clevr_distance),
    VtabTask("clevr-count", "structured", 8, "clevr_count", *_CLEVR, structured.clevr_count),
    VtabTask(
        "dmlab", "structured", 6, "dmlab",
        "https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz (reading its TFRecords needs "
        "`pip install 'fewshot-lite[meta-dataset]'`)",
        ("dmlab",),
        tuple(f"dmlab-{split}.tfrecord*" for split in ("train", "validation", "test")), dmlab,
    ),
    VtabTask(
        "dsprites-orientation", "structured", 16, "dsprites_ori",
        *_DSPRITES, structured.dsprites_orientation,
    ),
    VtabTask(
        "dsprites-location", "structured", 16, "dsprites_loc",
        *_DSPRITES, structured.dsprites_location,
    ),
    VtabTask(
        "smallnorb-azimuth", "structured", 18, "smallnorb_azi",
        *_SMALLNORB, structured.smallnorb_azimuth,
    ),
    VtabTask(
        "smallnorb-elevation", "structured", 9, "smallnorb_ele",
        *_SMALLNORB, structured.smallnorb_elevation,
    ),
    VtabTask(
        "kitti", "structured", 4, "kitti",
        "https://www.cvlibs.net/datasets/kitti/eval_object.php (data_object_image_2.zip, "
        "data_object_label_2.zip, devkit_object.zip)",
        ("Kitti/raw", "kitti/raw", "kitti", "KITTI"), ("training/image_2", "training/label_2"),
        structured.kitti,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class TaskData:
    """A task whose data were found."""

    task: VtabTask
    folder: Path
    layout: str
    """ "lists", "class folders" or "published files"."""

    def splits(self) -> Splits:
        """Read labels and splits, but no images.

        Raises:
            FewshotError: a file is missing, damaged or not the published one.
        """
        if self.layout == "lists":
            return from_lists(self.folder, self.task.classes)
        if self.layout == "class folders":
            return from_class_folders(self.folder)
        return self.task.read(self.folder)


@dataclass(frozen=True)
class VtabContents:
    """The tasks of VTAB-v2 that a folder holds."""

    tasks: tuple[TaskData, ...]
    problems: dict[str, str]
    """The reasons why tasks whose data are incomplete cannot be used, by name."""
    absent: tuple[VtabTask, ...]
    """Tasks without any data."""


def find_tasks(root: Path) -> VtabContents:
    """Find the tasks in a folder, by names of files only."""
    tasks: list[TaskData] = []
    problems: dict[str, str] = {}
    absent: list[VtabTask] = []
    for task in TASKS:
        located = _locate(root, task)
        if isinstance(located, TaskData):
            tasks.append(located)
        elif located is not None:
            problems[task.name] = located
        else:
            absent.append(task)
    return VtabContents(tuple(tasks), problems, tuple(absent))


def _locate(root: Path, task: VtabTask) -> TaskData | str | None:
    """Return the data of a task, or a sentence with what its folder lacks, or None."""
    for name in dict.fromkeys((task.exported, task.name)):
        if all((root / name / part).is_file() for part in LISTS):
            return TaskData(task, root / name, "lists")
        if all((root / name / part).is_dir() for part in FOLDERS):
            return TaskData(task, root / name, "class folders")
    lacking: str | None = None
    for folder in (root / name for name in task.folders):
        missing = [part for part in task.needs if not any(folder.glob(part))]
        if folder.is_dir() and not missing:
            return TaskData(task, folder, "published files")
        # The root is no task's own folder: it is incomplete only if it holds some of the files.
        is_theirs = folder.is_dir() and (folder != root or len(missing) < len(task.needs))
        if is_theirs and lacking is None:
            lacking = f"{folder}: lacks {', '.join(missing)}. It is published at {task.url}."
    return lacking


def missing_line(task: VtabTask) -> str:
    """Return a sentence with the source of a task's data and its place in the root."""
    holds = ", ".join(task.needs)
    return f"{task.name}: not there. From {task.url}; as {task.folders[0]}/ with {holds}"


def require(root: Path) -> VtabContents:
    """Find the tasks in a folder; raise FewshotError if there are none."""
    contents = find_tasks(root)
    if contents.tasks:
        return contents
    if contents.problems:
        raise FewshotError(next(iter(contents.problems.values())))
    example = TASKS[1]
    raise FewshotError(
        f"{root}: none of VTAB-v2's 18 tasks is in this folder. It needs folders such as "
        f"{example.folders[0]}/ with {', '.join(example.needs)} (from {example.url}); "
        "`fewshot-lite data check` of a folder with one of them lists all."
    )
