"""Write an exported model: trace it, write it, run it and compare it with the original."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fewshot_lite import __version__
from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.errors import FewshotError, UsageError, first_line
from fewshot_lite.core.files import as_path, atomic_path, failing_as, sha256
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.classifier import Answers
from fewshot_lite.personal.export.eight_bits import (
    Agreement,
    LabelledPhotos,
    compare,
    quantised,
)
from fewshot_lite.personal.export.formats import Format, check_export
from fewshot_lite.personal.exported_model import (
    METADATA_KEY,
    THRESHOLD_STEPS,
    ExportedModel,
    with_checksum,
)
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.views import Pixels

_OUTPUTS = ("probabilities", "strangeness")
#: Largest difference of a probability that is allowed.
PROBABILITY_TOLERANCE = 1e-4
#: Largest difference of a novelty score that is allowed, relative to the score, or to 1 if smaller.
STRANGENESS_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """The largest differences between an exported file and the model."""

    images: int
    probability: float
    strangeness: float
    """The largest relative difference of the novelty score."""


def probe_images(size: int) -> Pixels:
    """Return fixed images of noise at several scales, black and white: uint8 (B, size, size, 3)."""
    noise = np.random.default_rng(0)
    images = []
    for side in (2, 4, 8, 16, 32, size):  # enlarged coarse noise is smooth, like photos
        for _ in range(3):
            spots = Image.fromarray(noise.integers(0, 256, (side, side, 3), np.uint8))
            images.append(np.asarray(spots.resize((size, size), Image.Resampling.BICUBIC)))
    plain = [np.full((size, size, 3), value, np.uint8) for value in (0, 255)]
    return np.stack([*images, *plain])


def check_parity(program: PixelProgram, run: Callable[[Pixels], Answers], size: int) -> Parity:
    """Compare an exported file with the model, on all probe images at once and on one alone.

    Args:
        program: the model.
        run: runs the file on pixels (B, S, S, 3).
        size: S.

    Raises:
        FewshotError: they differ by more than the tolerances.
    """
    images = probe_images(size)
    with torch.no_grad():
        expected, expected_scores, *_ = (t.numpy() for t in program(torch.from_numpy(images)))
    differences = []
    for count in (len(images), 1):
        probabilities, scores = run(images[:count])
        error = np.abs(scores - expected_scores[:count]) / np.maximum(expected_scores[:count], 1)
        differences.append((np.abs(probabilities - expected[:count]).max(), error.max()))
    probability, strangeness = np.max(differences, axis=0).tolist()  # NaN if one is
    if not (probability <= PROBABILITY_TOLERANCE and strangeness <= STRANGENESS_TOLERANCE):
        raise FewshotError(
            "The exported model does not answer as the one it was made from: probabilities differ "
            f"by up to {probability:.1e} ({PROBABILITY_TOLERANCE:.0e} is allowed), "
            f"strangeness by {strangeness:.1e} of it ({STRANGENESS_TOLERANCE:.0e}). "
            "Nothing was written."
        )
    return Parity(len(images), probability, strangeness)


class PixelProgram(nn.Module):
    """A module from pixels to probabilities and novelty scores, with all preprocessing."""

    def __init__(self, personal: PersonalModel, *, features: bool = False) -> None:
        """Assemble the module.

        Args:
            personal: the model.
            features: return the network's features as well.
        """
        super().__init__()
        self._features = features
        self.backbone = personal.backbone
        self.head = personal.head
        self._outputs_of = personal.outputs_of
        _ = personal.novelty  # fitted now, not while tracing

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return (*_OUTPUTS, "features") if self._features else _OUTPUTS

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Classify RGB images, uint8 (B, S, S, 3).

        Returns:
            Probabilities (B, K) and novelty scores (B,), float32, and features (B, d) if asked for.
        """
        features = self.backbone(pixels.permute(0, 3, 1, 2))
        outputs = self._outputs_of(features)
        answers = outputs.probabilities, outputs.strangeness
        return (*answers, features) if self._features else answers


def trace(program: PixelProgram, pixels: Tensor) -> ExportedProgram:
    """Trace the program for any number of images of one size.

    Args:
        program: the program.
        pixels: an example, uint8 (2, S, S, 3); torch would take 0 or 1 images for a fixed number.

    Raises:
        FewshotError: a network that torch.export cannot trace.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's internals
            traced = torch.export.export(
                program, (pixels,), dynamic_shapes={"pixels": {0: Dim("batch")}}
            )
    except Exception as error:  # tracing may raise anything
        raise FewshotError(
            f"The network cannot be exported: torch.export failed ({first_line(error)})."
        ) from None
    for node in traced.graph.nodes:  # paths on this computer are private
        node.meta.pop("stack_trace", None)
    return traced


#: The share of one's own photos that the entry "threshold" rejects.
_REJECT = 0.05


def describe_export(personal: PersonalModel, source: Path | None) -> dict[str, Any]:
    """Return the description in an exported file: how to use the outputs, and their origin.

    "threshold" rejects 5 % of one's own photos, "thresholds" are those for 0.1, 0.2 ... 99.9 %;
    None where no photo is rejected.
    """
    size, names = personal.image_size, list(personal.class_names)
    return {
        "format": 1,
        "kind": "exported",
        "version": __version__,
        "class_names": names,
        "shots": personal.labels.bincount(minlength=len(names)).tolist(),
        "image_size": size,
        "inputs": {"pixels": ["uint8 RGB, 0 to 255", ["batch", size, size, 3]]},
        "outputs": {
            "probabilities": ["float32", ["batch", len(names)]],
            "strangeness": ["float32", ["batch"]],
        },
        "privacy": "Set ORT_DISABLE_TELEMETRY=1, or importing onnxruntime reports its use.",
        "threshold": _finite(personal.threshold(_REJECT)),
        "thresholds": [
            _finite(personal.threshold(step / THRESHOLD_STEPS))
            for step in range(1, THRESHOLD_STEPS)
        ],
        "backbone": personal.backbone.name,
        "provenance": personal.provenance,
        "source": {"name": source.name, "sha256": sha256(source)} if source else {},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


#: The most bytes of weights that fit into one file of ONNX's protocol buffers.
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
    """The parity of the network in single precision."""
    int8: Agreement | None = None
    """The agreement of eight bits with single precision, if they were asked for."""
    missing: tuple[str, ...] = ()
    """The model's classes of which the folder of `int8` had no photo that could be read."""


@switches_checked
def export_model(
    personal: PersonalModel | str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    int8: str | Path | None = None,
    force: bool = False,
) -> Exported:
    """Export a personal model; nothing is written unless the file gives the same answers.

    Args:
        personal: the model, or its file, whose name and hash are then stored in the export.
        output: the file to write, ending in .onnx or .pt2.
        format: "onnx", for onnxruntime and others (extra `onnx`), or "torch-export", for
            `torch.export.load`.
        int8: a folder of class folders, or a ZIP archive of such, as the model was adapted to:
            convolutions are quantised to eight bits, by the ranges of activations on its photos,
            unless too many answers change; see `personal.export.eight_bits`. For "onnx" alone.
        force: overwrite an existing `output`.

    Raises:
        UsageError: an unknown format, a missing extra, an output that exists and `force` is not
            set, or a model that is not on the CPU.
        FewshotError: the network cannot be exported, or the exported one answers differently.
    """
    output = as_path(output, "output")
    source = None if isinstance(personal, PersonalModel) else as_path(personal, "personal")
    checked = check_export(output, format, source=source, int8=int8 is not None, force=force)
    model = personal if isinstance(personal, PersonalModel) else PersonalModel.load(personal)
    if model.features.device.type != "cpu":
        raise UsageError("Models are exported from the CPU. Load it with device='cpu'.")
    description = describe_export(model, source)
    size = model.image_size
    photos = None
    if int8 is not None:
        photos = LabelledPhotos.read(as_path(int8, "int8"), size, model.class_names)
    program = PixelProgram(model, features=photos is not None).eval()
    traced = trace(program, torch.zeros(2, size, size, 3, dtype=torch.uint8))
    network = _onnx(traced, program.outputs) if checked == "onnx" else None
    agreement = None
    with failing_as(output), atomic_path(output, force=force) as temporary:
        if network is None:
            data = _torch_bytes(traced, description)
        else:
            data = _onnx_bytes(network, description)
        temporary.write_bytes(data)
        run = (_onnx_runner if checked == "onnx" else _torch_runner)(temporary)
        parity = check_parity(program, run, size)
        if photos is not None:
            network, agreement = _in_eight_bits(network, model, photos)
            data = _onnx_bytes(network, {**description, "int8": asdict(agreement)})
            temporary.write_bytes(data)
    missing, written = photos.missing if photos else (), len(data)
    return Exported(output, checked, written, model.class_names, size, parity, agreement, missing)


def _in_eight_bits(
    network: Any, model: PersonalModel, photos: LabelledPhotos
) -> tuple[Any, Agreement]:
    """Quantise a network and compare it; the features, its third output, are then removed.

    Raises:
        UsageError, FewshotError: it has too few convolutions, cannot be quantised, or answers
            differently.
    """
    try:
        with _quiet():
            int8_network = quantised(network, photos.sample())
            session = open_session(int8_network.SerializeToString())
            (features,) = run_session(session, ["features"], photos.pixels.transpose(0, 2, 3, 1))
    except FewshotError:
        raise
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise FewshotError(
            f"--int8: the network cannot be quantised ({first_line(error)}). Export it without."
        ) from None
    agreement = compare(model, photos, features)
    del int8_network.graph.output[len(_OUTPUTS) :]
    return int8_network, agreement


def _onnx(traced: ExportedProgram, outputs: Sequence[str]) -> Any:
    """Convert the program to ONNX's ModelProto."""
    if sum(t.nbytes for t in traced.state_dict.values()) > _MOST_ONNX_BYTES:
        raise FewshotError("ONNX files end at 2 GB, and this network is larger.")
    try:
        with _quiet():
            exported = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=["pixels"],
                output_names=list(outputs),
            )
            assert exported is not None
            proto = exported.model_proto
    except Exception as error:  # the conversion may raise anything
        raise FewshotError(
            f"The network cannot be converted to ONNX ({first_line(error)})."
        ) from None
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in proto.graph.node:
        del node.metadata_props[:]  # torch's notes on the conversion
    return proto


def _onnx_bytes(network: Any, description: dict[str, Any]) -> bytes:
    """Serialise ONNX's ModelProto with a description."""

    def tail_of(text: str) -> bytes:
        tail = type(network)()
        entry = tail.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, text
        return bytes(tail.SerializeToString())  # concatenated messages are one message

    return with_checksum(bytes(network.SerializeToString()), description, tail_of)


def _torch_bytes(traced: ExportedProgram, description: dict[str, Any]) -> bytes:
    buffer, files = io.BytesIO(), {f"{METADATA_KEY}.json": json.dumps(description)}
    with _quiet():
        torch.export.save(traced, buffer, extra_files=files)
    return buffer.getvalue()


def _onnx_runner(path: Path) -> Any:
    return ExportedModel.load(path).outputs


def _torch_runner(path: Path) -> Any:
    with _quiet(), path.open("rb") as file:
        module = torch.export.load(io.BytesIO(file.read())).module()

    @torch.no_grad()
    def run(pixels: Pixels) -> tuple[npt.NDArray[Any], ...]:
        return tuple(t.numpy() for t in module(torch.from_numpy(pixels)))

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings and log messages of exporters, whose output is checked."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
