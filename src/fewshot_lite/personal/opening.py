"""Opening a personal model of any form, by the engine that starts fastest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL, sha256

if TYPE_CHECKING:
    from fewshot_lite.personal.model import PersonalModel
    from fewshot_lite.personal.onnx_model import OnnxModel


def open_personal(
    path: str | Path = DEFAULT_PERSONAL,
    *,
    device: str = "auto",
    with_photos: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> PersonalModel | OnnxModel:
    """Read a personal model, or one that was exported to ONNX.

    Of `mine.safetensors` an export beside it, `mine.onnx`, is taken where that gives the same
    answers and starts sooner: it was made from this very file, by the hash in it, onnxruntime is
    installed, and the device is "auto" or "cpu". torch is not imported then.

    Args:
        path: what `adapt` or `export` wrote.
        device: as for the command line; other than "auto" and "cpu" needs torch.
        with_photos: what the model keeps of its photos is needed, so no export beside it will do.
        on_note: told in one line of an export beside the file that is not used, and why.

    Raises:
        UsageError: no such file, a file of another kind, or no such device.
        FewshotError: a damaged file.
    """
    path = Path(path)
    if path == DEFAULT_PERSONAL and not path.exists() and path.with_suffix(".onnx").is_file():
        path = path.with_suffix(".onnx")
    on_cpu = device in ("auto", "cpu")
    if path.suffix.lower() == ".onnx":
        from fewshot_lite.personal.onnx_model import OnnxModel

        if not on_cpu:
            raise UsageError(
                f"--device {device}: {path} runs on the CPU. Leave --device out, or give the "
                ".safetensors file that it was exported from."
            )
        return OnnxModel.load(path)
    if path.suffix.lower() == ".pt2":
        raise UsageError(
            f"--model {path}: a program for torch.export.load. Give the .safetensors file that it "
            "was exported from."
        )
    if on_cpu and not with_photos and (twin := _export_of(path, on_note)):
        return twin
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.model import PersonalModel

    return PersonalModel.load(path, device=str(pick_device(device)))


def _export_of(path: Path, on_note: Callable[[str], None] | None) -> OnnxModel | None:
    """The export beside a model, if it can be used in its place."""
    if not (path.is_file() and (beside := path.with_suffix(".onnx")).is_file()):
        return None
    from fewshot_lite.personal.onnx_model import OnnxModel

    try:
        exported = OnnxModel.load(beside)  # raises where onnxruntime is missing, too
        if exported.source_sha256 == sha256(path):
            return exported
    except FewshotError:  # it was not asked for
        return None
    if on_note is not None:
        on_note(f"{beside} was exported from another version of {path.name} and is not used.")
    return None
