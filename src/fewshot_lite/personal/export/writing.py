"""Writing an exported model: traced, written, run and compared before it takes its name."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.personal.export.description import METADATA_KEY, describe_export
from fewshot_lite.personal.export.formats import Format, check_export
from fewshot_lite.personal.export.parity import Parity, check_parity
from fewshot_lite.personal.export.program import PixelProgram, first_line, trace
from fewshot_lite.personal.exported_model import ExportedModel, checked
from fewshot_lite.personal.personal_model import PersonalModel

#: Above this the protocol buffers of ONNX cannot have the weights in one file.
_MOST_ONNX_BYTES = 2**31 - 2**20


@dataclass(frozen=True)
class Exported:
    """The file that was written."""

    path: Path
    format: Format
    bytes: int
    class_names: tuple[str, ...]
    image_size: int
    parity: Parity


def export_model(
    personal: PersonalModel | str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    force: bool = False,
) -> Exported:
    """Write a personal model for elsewhere; nothing is written unless it answers the same there.

    Args:
        personal: the model, or its file. Only of a file the export can say which one it is from.
        output: what to write, ending in .onnx or .pt2.
        format: "onnx", for onnxruntime and others (extra `onnx`), or "torch-export", for
            `torch.export.load`.
        force: overwrite `output`.

    Raises:
        UsageError: an unknown format, an extra that is missing, an output that exists and `force`
            is not set, or a model that is not on the CPU.
        FewshotError: the network cannot be exported, or the exported one answers differently.
    """
    output = Path(output)
    source = None if isinstance(personal, PersonalModel) else Path(personal)
    wanted = check_export(output, format, source=source, force=force)
    model = personal if isinstance(personal, PersonalModel) else PersonalModel.load(personal)
    if model.features.device.type != "cpu":
        raise UsageError("Models are exported from the CPU. Load it with device='cpu'.")
    about = describe_export(model, source)
    size = model.image_size
    program = PixelProgram(model).eval()
    traced = trace(program, torch.zeros(2, size, size, 3, dtype=torch.uint8))
    data = (_onnx if wanted == "onnx" else _torch_export)(traced, about)
    try:
        with atomic_path(output, force=force) as temporary:
            temporary.write_bytes(data)
            run = (_onnx_runner if wanted == "onnx" else _torch_runner)(temporary)
            parity = check_parity(program, run, size)
    except OSError as error:
        raise FewshotError(f"{output}: could not be written ({error.strerror or error}).") from None
    return Exported(output, wanted, len(data), model.class_names, size, parity)


def _onnx(traced: ExportedProgram, about: dict[str, Any]) -> bytes:
    if sum(t.nbytes for t in traced.state_dict.values()) > _MOST_ONNX_BYTES:
        raise FewshotError("ONNX files end at 2 GB, and this network is larger.")
    try:
        with _quiet():
            exported = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=["pixels"],
                output_names=["probabilities", "strangeness"],
            )
            assert exported is not None
            proto = exported.model_proto
    except Exception as error:  # whatever the conversion comes upon
        raise FewshotError(
            f"The network cannot be converted to ONNX ({first_line(error)})."
        ) from None
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in proto.graph.node:
        del node.metadata_props[:]  # how torch came to it
    graph = bytes(proto.SerializeToString())

    def tail_of(text: str) -> bytes:
        tail = type(proto)()
        entry = tail.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, text
        return bytes(tail.SerializeToString())  # messages one after another are one message

    return checked(graph, about, tail_of)


def _torch_export(traced: ExportedProgram, about: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(traced, buffer, extra_files={f"{METADATA_KEY}.json": json.dumps(about)})
    return buffer.getvalue()


def _onnx_runner(path: Path) -> Any:
    return ExportedModel.load(path).outputs


def _torch_runner(path: Path) -> Any:
    with _quiet(), path.open("rb") as file:
        module = torch.export.load(io.BytesIO(file.read())).module()

    @torch.no_grad()
    def run(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], ...]:
        return tuple(t.numpy() for t in module(torch.from_numpy(pixels)))

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about the workings of exporters: what comes of them is checked."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
