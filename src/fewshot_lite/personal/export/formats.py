"""The forms a personal model can be exported in; known without importing torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import check_output

Format = Literal["onnx", "torch-export"]

#: How the files end.
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
FORMATS: tuple[Format, ...] = tuple(ENDINGS)

_NEEDED = ("onnx", "onnxscript")


def check_export(
    output: Path, format: str, *, source: Path | None, int8: bool = False, force: bool
) -> Format:
    """Refuse an export before the work is done that it is for; return its format.

    Args:
        output: the file to write.
        format: what was asked for.
        source: the model's file, if it has one.
        int8: eight bits are wanted.
        force: `output` may be there.

    Raises:
        UsageError: no such format, eight bits in another than ONNX, an extra that is not
            installed, or an output of another ending, that exists and `force` is not set, that is
            the model itself or cannot be written.
    """
    if format not in ENDINGS:
        raise UsageError(f"--format {format}: not known. Use {' or '.join(FORMATS)}.")
    if int8 and format != "onnx":
        raise UsageError(f"--int8: goes with --format onnx, not with {format}.")
    wanted: Format = "onnx" if format == "onnx" else "torch-export"
    if output.suffix.lower() != ENDINGS[wanted]:
        raise UsageError(f"--output {output}: end it in {ENDINGS[wanted]} for --format {format}.")
    check_output(output, force=force, stream=True)
    if source and output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"--output {output}: the same file as the model. Give another name.")
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if wanted == "onnx" and missing:
        raise UsageError(
            f"--format onnx: needs {missing[0]}. Install the extra: "
            "pip install 'fewshot-lite[onnx]'."
        )
    return wanted
