"""Open models of any kind, by the engine that starts fastest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_BASE, DEFAULT_PERSONAL, as_path

if TYPE_CHECKING:
    from fewshot_lite.personal.exported_model import ExportedModel
    from fewshot_lite.personal.meta_model import MetaModel
    from fewshot_lite.personal.personal_model import PersonalModel
    from fewshot_lite.personal.torch_free_base import TorchFreeBase
    from fewshot_lite.personal.torch_free_model import TorchFreeModel


@overload
def load(base: Literal["default"] = ..., *, device: str = ...) -> MetaModel: ...
@overload
def load(
    base: str | Path, *, weights: str | Path | None = ..., device: str = ...
) -> MetaModel | PersonalModel | ExportedModel | TorchFreeModel: ...


def load(
    base: str | Path = DEFAULT_BASE,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
) -> MetaModel | PersonalModel | ExportedModel | TorchFreeModel:
    """Open a model of any kind.

    Args:
        base: the file of a personal model (`.safetensors`, or its export, `.onnx`), or whatever
            `MetaModel.load` takes.
        weights: as `MetaModel.load` takes them.
        device: the device to load it to.

    Returns:
        A personal model, to `classify` with, for the file of one; else a `MetaModel`, to `adapt`.

    Raises:
        UsageError: no such file or name, or a file of another kind.
        FewshotError: a damaged file, or weights that cannot be downloaded.
    """
    path = as_path(base, "base")
    if weights is None and os.path.isfile(path):
        if path.suffix.lower() == ".onnx":
            return open_personal(path, device=device)
        if path.suffix.lower() == ".safetensors":
            from fewshot_lite.core.tensor_files import read_meta

            if read_meta(path).get("kind") == "personal":
                from fewshot_lite.personal.personal_model import PersonalModel

                return PersonalModel.load(path, device=device)
    from fewshot_lite.personal.meta_model import MetaModel

    return MetaModel.load(base, weights=weights, device=device)


@switches_checked
def open_base(
    base: str | Path = DEFAULT_BASE,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    without_torch: bool = True,
) -> MetaModel | TorchFreeBase:
    """Open a base to adapt, by the engine that starts fastest.

    On "auto" and "cpu" onnxruntime and NumPy adapt it if they can (`torch_free_base`), which takes
    less time than importing torch. Torch adapts all other bases, and on other devices ("cpu:0" is
    one).

    Args:
        base: as `MetaModel.load` takes it.
        weights: as `MetaModel.load` takes them.
        device: as on the command line.
        without_torch: allow a `TorchFreeBase`, which takes no gradient steps.

    Raises:
        UsageError: no such file or name, a file of another kind, or no such device.
        FewshotError: a damaged file, or weights that cannot be downloaded.
    """
    if without_torch and weights is None and device in ("auto", "cpu"):
        from fewshot_lite.personal.torch_free_base import TorchFreeBase

        if (torch_free := TorchFreeBase.load(base)) is not None:
            return torch_free
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.meta_model import MetaModel

    return MetaModel.load(base, weights=weights, device=str(pick_device(device)))


@switches_checked
def open_personal(
    path: str | Path = DEFAULT_PERSONAL,
    *,
    device: str = "auto",
    with_photos: bool = False,
) -> PersonalModel | ExportedModel | TorchFreeModel:
    """Read a personal model, or one that was exported to ONNX.

    On "auto" and "cpu" onnxruntime runs it, which starts in a fraction of the time that importing
    torch takes, and gives the same answers. Torch runs it on other devices ("cpu:0" is one), and
    if its network is not an EfficientNet-Lite.

    Args:
        path: a file written by `adapt` or `export`.
        device: as on the command line.
        with_photos: return a `PersonalModel`, whose features are tensors, unless it is an export.

    Raises:
        UsageError: no such file, a file of another kind, or no such device.
        FewshotError: a damaged file.
    """
    path = as_path(path, "path")
    if path == DEFAULT_PERSONAL and not path.exists() and path.with_suffix(".onnx").is_file():
        path = path.with_suffix(".onnx")
    on_cpu = device in ("auto", "cpu")
    if path.suffix.lower() == ".onnx":
        from fewshot_lite.personal.exported_model import ExportedModel

        if not on_cpu:
            raise UsageError(
                f"--device {device}: {path} runs on the CPU. Leave --device out, or give the "
                ".safetensors file that it was exported from."
            )
        return ExportedModel.load(path)
    if path.suffix.lower() == ".pt2":
        raise UsageError(
            f"--model {path}: a program for torch.export.load. Give the .safetensors file that it "
            "was exported from."
        )
    if on_cpu and not with_photos:
        from fewshot_lite.personal.torch_free_model import TorchFreeModel

        if (torch_free := TorchFreeModel.load(path)) is not None:
            return torch_free
    from fewshot_lite.core.devices import pick_device
    from fewshot_lite.personal.personal_model import PersonalModel

    return PersonalModel.load(path, device=str(pick_device(device)))


def describe(file: str | Path) -> dict[str, Any]:
    """Return the description in a file of fewshot-lite: its kind, its origin and its scores.

    Args:
        file: a checkpoint, a personal model, an ONNX export or a training state.

    Raises:
        UsageError: no such file, or not one of fewshot-lite's.
        FewshotError: a damaged file.
    """
    path = as_path(file, "file")
    if path.suffix.lower() == ".onnx":
        from fewshot_lite.personal.exported_model import ExportedModel

        return ExportedModel.load(path, flag="").about
    from fewshot_lite.core.tensor_files import read_meta

    return read_meta(path)
