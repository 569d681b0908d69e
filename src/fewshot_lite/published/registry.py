"""Which protocol a folder is evaluated with: the one asked for, or that of its format."""

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
from fewshot_lite.published.vtab.catalogue import look
from fewshot_lite.published.vtab.protocol import VtabProtocol

#: Options that tasks of folders alone have, and that ORBIT alone has.
_OF_FOLDERS, _OF_ORBIT = ("ways", "shots", "queries", "tracks"), ("orbit", "all_frames")


#: What published benchmarks are called.
_CALLED = {"meta-dataset": "Meta-Dataset", "vtab": "VTAB-v2", "orbit": "ORBIT"}


def open_protocol(
    paths: Sequence[Path],
    options: ProtocolOptions,
    *,
    query: Path | None = None,
    kind: ProtocolKind = "auto",
    find_unreadable: FindUnreadable = assume_readable,
) -> EvaluationProtocol:
    """A protocol over the data in folders.

    Args:
        paths: image folders and collections of them; or a published benchmark's folder alone.
        options: what is asked for, or left to the protocol.
        query: where queries are from if not from the one folder of `paths`; then both are image
            folders of the same classes.
        kind: "auto" goes by what lies in the folder.
        find_unreadable: for photos of folders, which are then left out.

    Raises:
        UsageError: an option that the protocol does not have.
        UsageError, FewshotError: the data are not there, or are not what the protocol needs.
    """
    for path in paths:
        require_folder(path)
    path = paths[0]
    if query is not None:
        what = "does not go with --support and --query, which are class folders"
        options.refuse_given(what, "tracks", "split", *_OF_ORBIT)
        if len(paths) > 1:
            raise UsageError(f"--support {path}: goes with no other folder but --query {query}.")
        pair = scan_classes(path), scan_classes(query)
        return FolderProtocol(pair[:1], options, query=pair[1], find_unreadable=find_unreadable)
    kinds = [recognise(path) if kind == "auto" else kind for path in paths]
    kind = kinds[0]
    for path, found in zip(paths, kinds, strict=True):
        if len(paths) > 1 and found != "folder":
            raise UsageError(
                f"{path}: {_CALLED[found]}, whose tasks are as published. Give it alone."
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
        options.refuse_given(what, "split", *_OF_ORBIT)
        return
    name = _CALLED[kind]
    what = f"for class folders alone; the tasks of {name} ({path}) are as published"
    options.refuse_given(what, *_OF_FOLDERS)
    if kind != "orbit":
        options.refuse_given(f"for ORBIT alone, and {path} holds {name}", *_OF_ORBIT)
    if kind == "vtab":
        options.refuse_given("VTAB has one task a data set, from fixed splits", "tasks", "split")


def recognise(path: Path) -> ProtocolKind:
    """The protocol of what lies in a folder: that of plain folders if it is nothing else."""
    if is_meta_dataset(path):
        return "meta-dataset"
    if find_orbit(path):
        return "orbit"
    try:
        return "vtab" if look(path).found else "folder"
    except FewshotError:
        return "folder"
