"""What adapting used, for those who are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.preflight import Finding
from fewshot_lite.personal.support import Support


@dataclass(frozen=True)
class Adaptation:
    """The photos that adapting used, and those that it did not."""

    class_names: tuple[str, ...]
    used: tuple[int, ...]
    """Photos used of each class."""
    skipped_per_class: tuple[int, ...]
    """Files skipped in each class's folder."""
    skipped: tuple[Skipped, ...]
    """All that was skipped, and why."""
    seconds: float
    findings: tuple[Finding, ...] = ()
    """The problems of the folder, the files skipped among them; see `images.preflight`."""
    root: Path | None = None
    """The folder."""
    paths: tuple[Path, ...] = ()
    """The support photos' files, in the model's order."""
    clips: tuple[int, ...] = ()
    """Clips of each class whose frames are among the photos."""
    whites: Mapping[str, float] = field(default_factory=dict)
    """What white is in grey photos of more than 8 bits (`images.bit_depths`)."""

    @classmethod
    def of(cls, support: Support, seconds: float) -> Adaptation:
        """That to a support set, which took so long."""
        return cls(
            support.class_names,
            support.used,
            support.skipped_per_class,
            support.skipped,
            seconds,
            support.findings,
            support.root,
            support.paths,
            support.clips,
            support.whites,
        )
