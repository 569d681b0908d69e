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
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.common import Row, arguments, emit, peak
from fewshot_lite.cli.render import terminal
from fewshot_lite.core import tensor_files
from fewshot_lite.core.checksums import CHECKSUM, UNKNOWN, stamp
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.tensor_files import KEY
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.exported_model import METADATA_KEY, ExportedModel
from fewshot_lite.personal.loading import open_personal
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel

#: Side of the images.
SIZE = 32
#: Processor seconds and bytes of memory that a file may cost, beyond which it is named.
SLOW, LARGE = 20, 2 * 2**30
#: Seconds by the clock that it may take, whatever else the machine does.
PATIENCE = 20 * SLOW

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


class TooSlow(BaseException):
    """Raised by the alarm."""


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


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values lie within a description."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:6])
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from nodes(inner, (*path, key))


def redescribed(meta: dict[str, Any], draw: Random) -> str:
    """The JSON of a description in which one to three values are others, or missing."""
    meta = json.loads(json.dumps(meta))
    for _ in range(draw.choice([1, 1, 2, 3])):
        places = list(nodes(meta))
        top = draw.choice(sorted({place[0] for place in places}))
        *way, last = draw.choice([place for place in places if place[0] == top])
        home = meta
        for key in way:
            home = home[key]
        if draw.random() < 0.2:
            del home[last]
        else:
            home[last] = copy.deepcopy(draw.choice(VALUES))  # another may be put into it
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
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        stamp(Path(file.name))
        return Path(file.name).read_bytes()


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


def use_base(path: Path, photo: Path) -> list[float]:
    model = MetaModel.load(path)
    images = torch.rand(6, 3, *2 * [model.image_size], generator=torch.Generator().manual_seed(0))
    features = model.adapt(images, ["a", "b", "c"] * 2).features
    show(path)
    return features.flatten().tolist()


def use_personal(path: Path, photo: Path) -> list[float]:
    shares = shares_by(PersonalModel.load, path, photo)
    show(path)
    return shares


def shares_by(load: Callable[[Path], PhotoClassifier], path: Path, photo: Path) -> list[float]:
    """Of all classes, by their names."""
    return [share for _, share in sorted(load(path).classify(photo, top=99).labels)]


def show(path: Path) -> None:
    """What `info` and `info --json` do."""
    meta = tensor_files.read_meta(path)
    with contextlib.redirect_stdout(io.StringIO()) as screen:
        terminal.out.file = screen
        terminal.print_info(meta, path, 1)
        terminal.print_json(meta)


def make_files(folder: Path, kinds: list[str]) -> tuple[dict[str, bytes], Path]:
    """The files of these kinds, and a photo to name."""
    classes = ("mug", "key", "leaf")
    write_folder(folder / "photos", classes, 4, seed=0, size=2 * SIZE)
    torch.manual_seed(0)
    for name, network in {"base": "conv4", "lite base": "efficientnet_lite0"}.items():
        learner = SimpleCnaps(Backbone(network, SIZE).eval(), embedding_dim=16)
        MetaModel(learner, SIZE).save(folder / f"{name}.safetensors", half=True)
        personal = MetaModel.load(folder / f"{name}.safetensors").adapt(folder / "photos")
        personal.save(folder / f"{name.replace('base', 'personal')}.safetensors")
    file = folder / "personal.safetensors"
    if "export" in kinds:
        export_model(file, folder / "personal.onnx")
    names = {
        "base": "base.safetensors",
        "personal": file.name,
        "lite": "lite personal.safetensors",
        "export": "personal.onnx",
    }
    photo = min((folder / "photos").glob("*/*"))
    return {kind: (folder / names[kind]).read_bytes() for kind in kinds}, photo


USES: dict[str, Callable[[Path, Path], list[float]]] = {
    "base": use_base,
    "personal": use_personal,
    "lite": partial(shares_by, open_personal),
    "export": partial(shares_by, ExportedModel.load),
}


def outcome(use: Callable[[], list[float]], whole: list[float], crafted: bool) -> str:
    """What comes of using a changed file."""
    try:
        answer = use()
    except FewshotError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    if not all(map(math.isfinite, answer)):
        return "not finite"
    same = len(answer) == len(whole) and all(map(math.isclose, answer, whole))
    return "as before" if same else "another answer" if crafted else "silent"


def main() -> None:
    args = arguments(__doc__, tries=(5000, "of each kind of file"), kinds=",".join(USES), seed=0)
    kinds = args.kinds.split(",")

    def too_slow(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, too_slow)
    signal.signal(signal.SIGALRM, too_slow)
    result: Row = {}
    with tempfile.TemporaryDirectory() as scratch:
        files, photo = make_files(Path(scratch), kinds)
        for kind in kinds:
            result[kind] = fuzz(kind, files[kind], photo, args.tries, Random(f"{args.seed} {kind}"))
    emit("fuzz_checkpoints", vars(args), result)


def fuzz(kind: str, data: bytes, photo: Path, tries: int, draw: Random) -> Row:
    """Count what comes of changed files of one kind."""
    path = photo.parents[2] / f"changed{'.onnx' if kind == 'export' else '.safetensors'}"
    path.write_bytes(data)
    whole = USES[kind](path, photo)
    counts: Counter[str] = Counter()
    uncaught: dict[str, int] = {}
    costly: list[str] = []
    craft = crafted_export if kind == "export" else crafted
    for number in range(tries):
        change = draw.choice([flip, flip, cut, extend, craft, craft, craft, craft])
        path.write_bytes(change(data, draw))
        before, start = peak(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        signal.alarm(PATIENCE)
        try:
            counts[outcome(lambda: USES[kind](path, photo), whole, change is craft)] += 1
        except TooSlow:
            counts["too slow"] += 1
        except Exception as error:
            counts["uncaught"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"
            uncaught[what[:200]] = uncaught.get(what[:200], 0) + 1
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        if time.process_time() - start > SLOW or peak() - before > LARGE:
            costly.append(f"{change.__name__} {number}")
    return {"counts": dict(counts), "uncaught": uncaught, "costly": costly, "peak": peak()}


if __name__ == "__main__":
    main()
