"""Opening of the protocol of a folder, by name or by the folder's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.protocols.folders import (
    FindUnreadable,
    FolderProtocol,
    assume_readable,
)
from fewshot_lite.evaluation.protocols.options import ProtocolKind, ProtocolOptions
from fewshot_lite.images.folders import require_folder, scan_classes, scan_collections
from fewshot_lite.published.meta_dataset.protocol import MetaDatasetProtocol
from fewshot_lite.published.meta_dataset.reader import is_meta_dataset
from fewshot_lite.published.meta_dataset.spec import SPLIT_NAMES
from fewshot_lite.published.orbit.layout import find_orbit
from fewshot_lite.published.orbit.protocol import RULES, OrbitProtocol
from fewshot_lite.published.vtab.catalogue import find_tasks
from fewshot_lite.published.vtab.protocol import VtabProtocol

#: Options that only class folders, and only ORBIT have.
_FOLDER_OPTIONS, _ORBIT_OPTIONS = ("ways", "shots", "queries", "tracks"), ("orbit", "all_frames")

#: Names of the published benchmarks.
_NAMES = {"meta-dataset": "Meta-Dataset", "vtab": "VTAB-v2", "orbit": "ORBIT"}


def open_protocol(
    paths: Sequence[Path],
    options: ProtocolOptions,
    *,
    query: Path | None = None,
    kind: ProtocolKind = "auto",
    find_unreadable: FindUnreadable = assume_readable,
) -> EvaluationProtocol:
    """Open the protocol of the data in folders.

    Args:
        paths: image folders and collections of them, or the folder of one published benchmark.
        options: settings; None is the protocol's default.
        query: the folder of the queries, if another one than the single one in `paths`; both are
            image folders of the same classes.
        kind: the protocol; "auto" recognises the folder's format.
        find_unreadable: returns the photos of class folders to leave out.

    Raises:
        UsageError: an option that the protocol does not have.
        UsageError, FewshotError: data that are missing, or unfit for the protocol.
    """
    for path in paths:
        require_folder(path)
    path = paths[0]
    if query is not None:
        what = "does not go with --support and --query, which are class folders"
        options.refuse_given(what, "tracks", "split", *_ORBIT_OPTIONS)
        if len(paths) > 1:
            raise UsageError(f"--support {path}: goes with no other folder but --query {query}.")
        pair = scan_classes(path), scan_classes(query)
        return FolderProtocol(pair[:1], options, query=pair[1], find_unreadable=find_unreadable)
    kinds = [recognise(path) if kind == "auto" else kind for path in paths]
    kind = kinds[0]
    for path, name in zip(paths, kinds, strict=True):
        if len(paths) > 1 and name != "folder":
            raise UsageError(
                f"{path}: {_NAMES[name]}, whose tasks are as published. Give it alone."
            )
    _refuse(options, path, kind)
    split, seed = options.split or "test", options.seed
    if kind == "meta-dataset":
        tasks = options.tasks or 600
        return MetaDatasetProtocol(path, split=SPLIT_NAMES[split], tasks=tasks, seed=seed)
    if kind == "vtab":
        return VtabProtocol(path, seed=seed)
    if kind == "orbit":
        return OrbitProtocol(
            path,
            RULES[options.orbit or "2022"],
            mode=split,
            all_frames=options.all_frames,
            tasks_per_user=options.tasks,
            seed=seed,
        )
    return FolderProtocol(scan_collections(paths), options, find_unreadable=find_unreadable)


def _refuse(options: ProtocolOptions, path: Path, kind: ProtocolKind) -> None:
    """Refuse options that the protocol would ignore."""
    if kind == "folder":
        what = f"{path} holds class folders, which have none of this"
        options.refuse_given(what, "split", *_ORBIT_OPTIONS)
        return
    name = _NAMES[kind]
    what = f"for class folders alone; the tasks of {name} ({path}) are as published"
    options.refuse_given(what, *_FOLDER_OPTIONS)
    if kind != "orbit":
        options.refuse_given(f"for ORBIT alone, and {path} holds {name}", *_ORBIT_OPTIONS)
    if kind == "vtab":
        options.refuse_given("VTAB has one task a data set, from fixed splits", "tasks", "split")


def recognise(path: Path) -> ProtocolKind:
    """Return the protocol of a folder's format: "folder" if it is no published benchmark."""
    if is_meta_dataset(path):
        return "meta-dataset"
    if find_orbit(path):
        return "orbit"
    try:
        return "vtab" if find_tasks(path).tasks else "folder"
    except FewshotError:
        return "folder"
