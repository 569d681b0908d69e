"""Opening a model of any kind: a base to adapt, or a personal model to classify with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from fewshot_lite.core.files import DEFAULT_BASE

if TYPE_CHECKING:
    from fewshot_lite.personal.meta_model import MetaModel
    from fewshot_lite.personal.model import PersonalModel
    from fewshot_lite.personal.onnx_model import OnnxModel
    from fewshot_lite.personal.runtime_model import RuntimeModel


@overload
def load(base: Literal["default"] = ..., *, device: str = ...) -> MetaModel: ...
@overload
def load(
    base: str | Path, *, weights: str | Path | None = ..., device: str = ...
) -> MetaModel | PersonalModel | OnnxModel | RuntimeModel: ...


def load(
    base: str | Path = DEFAULT_BASE,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
) -> MetaModel | PersonalModel | OnnxModel | RuntimeModel:
    """Open a model, whatever its kind.

    Args:
        base: the file of a personal model (`.safetensors`, or its export, `.onnx`), of a
            meta-trained one, or what else `MetaModel.load` takes.
        weights: of a network that is named, as `MetaModel.load` takes them.
        device: where to.

    Returns:
        A personal model for the file of one, to `classify` with; else a `MetaModel`, to `adapt`.

    Raises:
        UsageError: no such file or name, or a file of another kind.
        FewshotError: a damaged file, or weights that cannot be had.
    """
    path = Path(base)
    if weights is None and path.is_file():
        if path.suffix.lower() == ".onnx":
            from fewshot_lite.personal.opening import open_personal

            return open_personal(path, device=device)
        if path.suffix.lower() == ".safetensors":
            from fewshot_lite.core.tensor_files import read_meta

            if read_meta(path).get("kind") == "personal":
                from fewshot_lite.personal.model import PersonalModel

                return PersonalModel.load(path, device=device)
    from fewshot_lite.personal.meta_model import MetaModel

    return MetaModel.load(base, weights=weights, device=device)
