"""The formats that a personal model can be exported to; this does not import torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import check_output

Format = Literal["onnx", "torch-export"]

#: Extensions of the files.
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
FORMATS: tuple[Format, ...] = tuple(ENDINGS)

_NEEDED = ("onnx", "onnxscript")


def check_export(
    output: Path, format: str, *, source: Path | None, int8: bool, force: bool
) -> Format:
    """Check the arguments of an export before the work; return the format.

    Args:
        output: the file to write.
        format: the name of a format.
        source: the model's file, if it has one.
        int8: quantise to eight bits.
        force: overwrite an existing `output`.

    Raises:
        UsageError: no such format, eight bits in another format than ONNX, a missing extra, or an
            `output` that has another extension, exists without `force`, is the model itself or
            cannot be written.
    """
    if format not in ENDINGS:
        raise UsageError(f"--format {format}: not known. Use {' or '.join(FORMATS)}.")
    if int8 and format != "onnx":
        raise UsageError(f"--int8: goes with --format onnx, not with {format}.")
    known: Format = "onnx" if format == "onnx" else "torch-export"
    if output.suffix.lower() != ENDINGS[known]:
        raise UsageError(f"--output {output}: end it in {ENDINGS[known]} for --format {format}.")
    check_output(output, force=force, stream=True)
    if source and output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"--output {output}: the same file as the model. Give another name.")
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if known == "onnx" and missing:
        raise UsageError(
            f"--format onnx: needs {missing[0]}. Install the extra: "
            "pip install 'fewshot-lite[onnx]'."
        )
    return known
