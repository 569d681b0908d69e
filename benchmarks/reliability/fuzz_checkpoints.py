"""Change model files at random, load them and use what loads: is what comes of it one clear line?

    python -m benchmarks.reliability.fuzz_checkpoints --tries 5000

A base, a personal model and its export are made from the demo's drawings with Conv-4, and a
personal model with EfficientNet-Lite0, which is run without torch ("lite").
Half of the changes are what disks do: bits flip, bytes are missing or added. The others are what
somebody does on purpose: another value in the description, tensors of other shapes, types or
values, nesting without end; those come with a checksum that is right, or without one. "silent" are
damaged files that were taken and gave another answer than the whole file.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.common import Row, arguments, emit
from benchmarks.trials import LARGE, summary, trial
from fewshot_lite.cli.info import info
from fewshot_lite.core.checksums import CHECKSUM, UNKNOWN, digits, place_at_start
from fewshot_lite.core.tensor_files import KEY
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.evaluation.cost import peak_resident
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.exported_model import METADATA_KEY, ExportedModel
from fewshot_lite.personal.loading import open_personal
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel

#: Side of the images.
SIZE = 32
#: How each kind of file is loaded.
LOADERS: dict[str, Callable[[Path], Any]] = {
    "base": MetaModel.load,
    "personal": PersonalModel.load,
    "lite": open_personal,
    "export": ExportedModel.load,
}
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 17, 1025, 10_000, 100_000, 2**31, 2**63, 10**30),
    *(0.5, 1e308, math.nan, math.inf, -math.inf),
    *("", "x" * 10_000, "\x1b[31mred\x1b[0m", "[/red]", "\u202egnp.exe", "\ud800", "../../x", "\0"),
    *([], {}, [[]], [None], {"a": 1}, [0], [-1], [1, 1], [10**6], ["a"], ["a", "b", "c"]),
    *("unknown", "resnet18", "vit_h_14", "conv4", "max", "cosine", "mahalanobis", "adapted"),
)
TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int8, torch.uint8, torch.uint64, torch.float8_e5m2),
)


def flip(data: bytes, draw: Random) -> bytes:
    """One to five bits, in the header more often than its size has it coming."""
    changed = bytearray(data)
    end = draw.choice([8, 8 + int.from_bytes(data[:8], "little") % len(data), len(data)])
    for _ in range(draw.choice([1, 1, 2, 5])):
        changed[draw.randrange(min(end, len(data)))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: Random) -> bytes:
    return data[: draw.choice([0, 7, 9, len(data) - 1, draw.randrange(len(data))])]


def extend(data: bytes, draw: Random) -> bytes:
    place = draw.choice([len(data), draw.randrange(len(data))])
    return data[:place] + draw.randbytes(draw.choice([1, 8, 1000])) + data[place:]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Within a part of a description, the containers and the keys of what they hold."""
    items: list[Any] = []
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value[:6]))
    for key, inner in items:
        yield value, key
        yield from places(inner)


def redescribed(meta: dict[str, Any], draw: Random) -> str:
    """The JSON of a description in which one to three values are others, or missing."""
    meta = json.loads(json.dumps(meta))
    for _ in range(draw.choice([1, 1, 2, 3])):
        top = draw.choice(sorted(meta))
        home, key = draw.choice([(meta, top), *places(meta[top])])
        if draw.random() < 0.2:
            del home[key]
        else:
            home[key] = copy.deepcopy(draw.choice(VALUES))  # another may be put into it
        if not meta:
            break
    return json.dumps(meta)


def nested(meta: dict[str, Any], draw: Random) -> str:
    """The JSON of a description with lists or objects within each other."""
    depth = draw.choice([50, 200, 600, 990, 2000, 100_000])
    deep = draw.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth])
    key = draw.choice(sorted(meta))
    return json.dumps({**meta, key: "@"}).replace('"@"', deep, 1)


def retensored(tensors: dict[str, Tensor], draw: Random) -> dict[str, Tensor]:
    """Tensors of which one is missing, or has another name, type, shape or value."""
    few = [name for name in tensors if not name.startswith(("network.", "backbone."))]
    name = draw.choice(draw.choice([few, list(tensors)]))
    old = tensors[name]
    where = draw.randrange(max(1, old.numel()))
    number = draw.choice([math.nan, math.inf, -math.inf, 0.0, 1e30, -1e30, -1, 7])
    changed = old.clone()
    with contextlib.suppress(RuntimeError, OverflowError, IndexError):  # an integer cannot be NaN
        draw.choice([changed.fill_, changed.view(-1)[where].fill_])(number)
    new = draw.choice([changed, changed, old.to(draw.choice(TYPES)), old.new_zeros(0), old[None]])
    if old.ndim and draw.random() < 0.3:
        new = draw.choice([old[:-1], torch.cat([old, old]), old.flatten(), old.sum()])
    kept = {key: value for key, value in tensors.items() if key != name}
    if draw.random() < 0.1:
        return kept
    return {**kept, draw.choice([name, name, name, f"{name}x"]): new.contiguous()}


def crafted(data: bytes, draw: Random) -> bytes:
    """A safetensors file with another content, and the checksum of that or none."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    meta, tensors = json.loads(header["__metadata__"][KEY]), load(data)
    del meta[CHECKSUM]
    kind = draw.choice(["description", "description", "nested", "tensors", "tensors"])
    if kind == "tensors":
        tensors = retensored(tensors, draw)
        if draw.random() < 0.5:
            return stamped(save(tensors, {KEY: json.dumps({CHECKSUM: UNKNOWN, **meta})}))
        entry = json.dumps(meta)
    else:
        entry = (redescribed if kind == "description" else nested)(meta, draw)
    return save(tensors, {KEY: entry})


def stamped(data: bytes) -> bytes:
    """A safetensors file with its checksum."""
    numbers = np.frombuffer(data, np.uint8)
    place = place_at_start(numbers)
    assert place is not None
    return data[:place] + digits(numbers, place) + data[place + len(UNKNOWN) :]


def crafted_export(data: bytes, draw: Random) -> bytes:
    """An ONNX file with another description, or another value in its weights."""
    import onnx

    model = onnx.load_model_from_string(data)
    [entry] = [item for item in model.metadata_props if item.key == METADATA_KEY]
    meta = json.loads(entry.value)
    meta.pop(CHECKSUM, None)
    if draw.random() < 0.7:
        changed = draw.choice([redescribed, redescribed, nested])(meta, draw)
        entry.value = changed.encode("utf-8", "replace").decode()
    else:
        entry.value = json.dumps(meta)
        weights = draw.choice(model.graph.initializer)
        weights.raw_data = flip(weights.raw_data, draw) if weights.raw_data else b""
    return bytes(model.SerializeToString())


def answer(kind: str, path: Path, photo: Path) -> list[float]:
    """What a model file gives, a base features and others all shares; `info` describes it, too."""
    model = LOADERS[kind](path)
    if kind == "base":
        random = torch.Generator().manual_seed(0)
        images = torch.rand(6, 3, *2 * [model.image_size], generator=random)
        found: list[float] = model.adapt(images, ["a", "b", "c"] * 2).features.flatten().tolist()
    else:
        found = [share for _, share in sorted(model.classify(photo, top=99).labels)]
    if kind != "export":
        with contextlib.redirect_stdout(io.StringIO()):
            info(path)
            info(path, json=True)
    return found


def make_files(folder: Path) -> dict[str, Path]:
    """Write photos, and of these a file of each kind."""
    write_folder(folder / "photos", ("mug", "key", "leaf"), 4, seed=0, size=2 * SIZE)
    files = {name: folder / f"{name}.safetensors" for name in ("base", "personal", "lite")}
    torch.manual_seed(0)
    for kind, network in (("lite", "efficientnet_lite0"), ("personal", "conv4")):
        learner = SimpleCnaps(Backbone(network, SIZE).eval(), embedding_dim=16)
        MetaModel(learner, SIZE).save(files["base"], half=True)
        MetaModel.load(files["base"]).adapt(folder / "photos").save(files[kind])
    return files | {"export": export_model(files["personal"], folder / "export.onnx").path}


def fuzz(kind: str, file: Path, photo: Path, tries: int, draw: Random) -> Iterator[Row]:
    """What comes of so many changes of one file."""
    data, path = file.read_bytes(), file.with_stem("changed")
    craft = crafted_export if kind == "export" else crafted
    whole = answer(kind, file, photo)
    for number in range(tries):
        change = draw.choice([flip, flip, cut, extend, craft, craft, craft, craft])
        path.write_bytes(change(data, draw))
        name = f"{change.__name__} {number}"
        row = trial(name, partial(answer, kind, path, photo), LARGE + peak_resident())
        if (found := row.pop("answer", None)) is not None:
            same = len(found) == len(whole) and all(map(math.isclose, found, whole))
            other = "another answer" if change is craft else "silent"
            finite = all(map(math.isfinite, found))
            row["outcome"] = ("as before" if same else other) if finite else "not finite"
            row["wrong"] |= row["outcome"] in ("silent", "not finite")
        yield row


def main() -> None:
    args = arguments(__doc__, tries=(5000, "of each kind"), kinds=",".join(LOADERS), seed=0)
    result: Row = {}
    with tempfile.TemporaryDirectory() as scratch:
        files = make_files(Path(scratch))
        photo = min(Path(scratch).glob("photos/*/*"))
        for kind in args.kinds.split(","):
            draw = Random(f"{args.seed} {kind}")
            result[kind] = summary(fuzz(kind, files[kind], photo, args.tries, draw))
    emit("fuzz_checkpoints", vars(args), result)


if __name__ == "__main__":
    main()
