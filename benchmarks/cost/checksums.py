"""What the checksum costs of loading a file, in processor time.

python -m benchmarks.cost.checksums

A base, a personal model of the demo's drawings, by torch and by onnxruntime, and its export, from
memory that the system keeps of the files. Loading and computing the checksum again take turns; the
share is the median of their ratios.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import Row, arguments, emit, in_turns, ratios
from fewshot_lite.core import tensor_files
from fewshot_lite.core.checksums import is_whole, mapped, place_at_end, place_at_start
from fewshot_lite.core.files import find_base
from fewshot_lite.demo.drawings import KINDS, write_folder
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.loading import load
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.torch_free_model import TorchFreeModel


def main() -> None:
    args = arguments(__doc__, repeats=25)
    with tempfile.TemporaryDirectory() as folder:
        here, base = Path(folder), find_base("default")
        write_folder(here / "things", KINDS[:5], 5, seed=0)
        personal = load().adapt(here / "things").save(here / "personal.safetensors")
        exported = export_model(personal, here / "personal.onnx").path
        data = exported.read_bytes()
        pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "base": (lambda: MetaModel.load(base), of_file(base)),
            "personal, by torch": (
                lambda: PersonalModel.load(personal),
                of_file(personal),
            ),
            "personal": (lambda: TorchFreeModel.load(personal), of_file(personal)),
            "export": (
                lambda: ExportedModel.load(exported),
                lambda: is_whole(np.frombuffer(data, np.uint8), place_at_end(data)),
            ),
        }
        result = {name: share(*pair, args.repeats) for name, pair in pairs.items()}
    emit("checksums", vars(args), result)


def of_file(path: Path) -> Callable[[], Any]:
    """What looks at the checksum of a file, of today's kind or of the kind before."""
    if place_at_start(mapped(path)) is not None:
        return lambda: is_whole(data := mapped(path), place_at_start(data))
    tensors, meta = tensor_files.read_any(path)
    assert meta is not None
    return lambda: tensor_files.old_checksum(meta, tensors)


def share(load: Callable[[], Any], check: Callable[[], Any], repeats: int) -> Row:
    """Milliseconds of both, and the checksum's as a share of loading."""
    _, processor = in_turns({"load": load, "checksum": check}, repeats)
    return {
        **{f"{name}_ms": round(1000 * median(values), 2) for name, values in processor.items()},
        "share": round(median(ratios(processor, "checksum", "load")), 4),
    }


if __name__ == "__main__":
    main()
