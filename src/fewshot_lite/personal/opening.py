"""Opening a personal model of any form, by the engine that starts fastest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL

if TYPE_CHECKING:
    from fewshot_lite.personal.model import PersonalModel
    from fewshot_lite.personal.onnx_model import OnnxModel
    from fewshot_lite.personal.runtime_model import RuntimeModel


def open_personal(
    path: str | Path = DEFAULT_PERSONAL,
    *,
    device: str = "auto",
    with_photos: bool = False,
) -> PersonalModel | OnnxModel | RuntimeModel:
    """Read a personal model, or one that was exported to ONNX.

    On "auto" and "cpu" onnxruntime runs it, which starts in a fraction of the time that importing
    torch takes, and gives the same answers. torch runs it on other devices ("cpu:0" is one), and
    where its network is none of EfficientNet-Lite's.

    Args:
        path: what `adapt` or `export` wrote.
        device: as for the command line.
        with_photos: what the model keeps of its photos is needed, which takes torch.

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
    if on_cpu and not with_photos:
        from fewshot_lite.personal.runtime_model import RuntimeModel

        if (found := RuntimeModel.load(path)) is not None:
            return found
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.model import PersonalModel

    return PersonalModel.load(path, device=str(pick_device(device)))
