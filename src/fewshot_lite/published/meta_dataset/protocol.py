"""Meta-Dataset's protocol: 600 tasks from each data set's TEST classes, of variable way and shot.

Triantafillou et al. 2020; the test sets of MD-v2 are those of Dumoulin et al. 2021, "Comparing
transfer and meta learning approaches on a unified few-shot classification benchmark".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.images.photo import Source
from fewshot_lite.published.meta_dataset.reader import open_class, read_specs
from fewshot_lite.published.meta_dataset.sampler import CompositionSampler
from fewshot_lite.published.meta_dataset.spec import DataSetSpec
from fewshot_lite.published.tfrecord import RecordFile

#: The data sets that MD-v2 averages over.
MD_V2 = (
    *("omniglot", "aircraft", "cu_birds", "dtd"),
    *("quickdraw", "fungi", "traffic_sign", "mscoco"),
)


class MetaDatasetProtocol(EvaluationProtocol):
    """Tasks from the converted data sets in a folder, one data set after the other.

    Task t of a data set depends on the seed, the data set's name and t only, not on the other data
    sets. Images are drawn from a class's whole file, without replacement.
    """

    name = "Meta-Dataset"
    normal_intervals = True

    def __init__(
        self,
        root: Path,
        *,
        split: str = "TEST",
        tasks: int = 600,
        seed: int = 0,
    ) -> None:
        """Read the specifications and index all class files of the split.

        Args:
            root: a folder of converted data sets, or one of them.
            split: the split of the classes.
            tasks: the number of tasks of each data set.

        Raises:
            UsageError: no such folder, tasks below 1.
            FewshotError: a specification or a class file is missing or wrong; no data set has
                enough classes.
        """
        if tasks < 1:
            raise UsageError(f"--tasks {tasks}: at least 1 is needed.")
        specs = read_specs(root)
        self._tasks, self._seed = tasks, seed
        self._samplers: dict[str, CompositionSampler] = {}
        self._notes: list[str] = []
        kept = [spec for spec in specs if self._open(spec, split)]
        if not kept:
            raise FewshotError(
                f"{root}: no data set with enough classes in its {split} split. {self._notes[0]}"
            )
        self._specs = {spec.name: spec for spec in kept}
        self.classes = {
            spec.name: [spec.class_names[number] for number in spec.splits[split]] for spec in kept
        }
        self._files: dict[str, dict[int, RecordFile]] = {
            spec.name: {number: open_class(spec, number) for number in spec.splits[split]}
            for spec in kept
        }
        if split == "TEST":
            self._notes += _md_v2_notes(list(self._specs))

    @property
    def groups(self) -> Sequence[str]:
        """The data sets, by name."""
        return tuple(self._specs)

    @property
    def notes(self) -> Sequence[str]:
        """Notes on how classes are drawn, and on what is left out."""
        return tuple(self._notes)

    def __len__(self) -> int:
        return self._tasks * len(self._specs)

    def task(self, number: int) -> EvaluationTask:
        """Return task 0..len-1; those of a data set follow each other."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        position, count = divmod(number, self._tasks)
        name = self.groups[position]
        data_set = int.from_bytes(name.encode())
        random = generator(self._seed, Stream.META_DATASET_TASKS, data_set, count)
        episode = self._samplers[name].sample(random)
        support: list[tuple[Source, int]] = []
        query: list[tuple[Source, int]] = []
        for label, (number, shots) in enumerate(zip(episode.classes, episode.shots, strict=True)):
            records = self._files[name][number]
            order = torch.randperm(len(records), generator=random)[: shots + episode.queries]
            images = [(records[i], label) for i in order.tolist()]
            support += images[:shots]
            query += images[shots:]
        names = self._specs[name].class_names
        return EvaluationTask.of(name, (names[k] for k in episode.classes), support, query)

    def _open(self, spec: DataSetSpec, split: str) -> bool:
        """Make the sampler of a data set and notes on it; return whether tasks can be drawn."""
        if not spec.classes(split):
            self._notes.append(f"{spec.name}: left out, it has no {split} classes.")
            return False
        try:
            sampler = CompositionSampler(spec, split)
        except FewshotError as error:
            self._notes.append(f"{spec.name}: left out. {error}")
            return False
        self._samplers[spec.name] = sampler
        self._notes += _sampling_notes(spec, sampler)
        return True


def _sampling_notes(spec: DataSetSpec, sampler: CompositionSampler) -> list[str]:
    notes = []
    if sampler.kind == "two-level":
        notes.append(f"{spec.name}: the classes of a task are of one superclass, as published.")
    elif sampler.kind == "hierarchy":
        notes.append(
            f"{spec.name}: the classes of a task lie below one node of WordNet, as published."
        )
    if sampler.too_small:
        notes.append(f"{spec.name}: {sampler.too_small} classes with fewer than 2 images left out.")
    return notes


def _md_v2_notes(names: list[str]) -> list[str]:
    notes = []
    missing = [name for name in MD_V2 if name not in names]
    others = [name for name in names if name not in MD_V2]
    if missing:
        notes.append(
            f"The mean is not that of MD-v2: {', '.join(missing)} of its 8 data sets not there."
        )
    if others:
        notes.append(f"Not among the 8 test sets of MD-v2: {', '.join(others)}.")
    return notes
