"""Tiny data sets in the layouts that VTAB's publishers use.

Each `write_…` fills a folder as its archive unpacks, with a few flat images whose grey tells the
label, and returns how to tell the class name from an image's pixels: `name(pixels)`.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from google_crc32c import value as crc32c
from PIL import Image
from scipy.io import savemat

from fewshot_lite.published.tfrecord import masked

Pixels = npt.NDArray[np.uint8]
Name = Callable[[Pixels], str]


def grey(label: int) -> int:
    return 10 + 13 * label


def label_of(value: float) -> int:
    return round((value - 10) / 13)


def flat(path: Path, *values: int, size: tuple[int, int] = (24, 16)) -> None:
    """An image of one colour: a grey, or red, green and blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = values if len(values) == 3 else values * 3
    Image.new("RGB", size, colour).save(path, **({"quality": 95} if "jp" in path.suffix else {}))


def by_grey(names: Iterable[str]) -> Name:
    known = list(names)
    return lambda pixels: known[label_of(float(pixels[..., 0].mean()))]


def write_caltech101(root: Path) -> Name:
    names = ["BACKGROUND_Google", "Faces", "accordion"]
    for label, name in enumerate(names):
        for number in range(1, 33 + label):
            path = root / "caltech101/101_ObjectCategories" / name / f"image_{number:04d}.jpg"
            flat(path, grey(label))
    return by_grey(names)


def write_cifar100(root: Path) -> Name:
    """Red is the grey of the label, green its opposite: planes may not be swapped."""
    names = ["apple", "aquarium_fish", "baby", "bear"]
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join([*names, "", ""]))
    (folder / "coarse_label_names.txt").write_text("fish\n")
    for split, count in (("train", 40), ("test", 12)):
        data = b""
        for number in range(count):
            fine = number % 4
            planes = (grey(fine), 255 - grey(fine), 7)
            data += bytes([19, fine]) + b"".join(bytes([value]) * 1024 for value in planes)
        (folder / f"{split}.bin").write_bytes(data)

    def name(pixels: Pixels) -> str:
        red, green, blue = pixels.reshape(-1, 3).mean(0)
        assert green == 255 - red
        assert blue == 7
        return names[label_of(red)]

    return name


def write_flowers102(root: Path) -> Name:
    folder = root / "flowers-102"
    labels = [number % 3 for number in range(45)]
    for number, label in enumerate(labels, start=1):
        flat(folder / "jpg" / f"image_{number:05d}.jpg", grey(label))
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8) + 1})
    ids = np.arange(1, 46, dtype=np.uint16)[None]
    savemat(
        folder / "setid.mat",
        {"trnid": ids[:, 20:35], "valid": ids[:, :10], "tstid": np.delete(ids, np.s_[20:35])[10:]},
    )
    return by_grey(f"flower {k + 1}" for k in range(3))


def write_pets(root: Path) -> Name:
    names = ["Abyssinian", "american_bulldog", "Bengal"]
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("trainval", range(8)), ("test", range(8, 12))):
        lines = [f"{name}_{i} {k} 1 1" for i in numbers for k, name in enumerate(names, start=1)]
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
        for i in numbers:
            for label, name in enumerate(names):
                flat(folder / "images" / f"{name}_{i}.jpg", grey(label))
    return by_grey(names)


def write_sun397(root: Path) -> Name:
    names = ["abbey", "airplane_cabin", "bow_window/indoor"]
    folder = root / "SUN397"
    lines = []
    for label, name in enumerate(names):
        lines.append(f"/{name[0]}/{name}")
        for number in range(10):
            flat(folder / name[0] / name / f"sun_a{number}{label}.jpg", grey(label))
    (folder / "ClassName.txt").write_text("\n".join(lines) + "\n")
    return by_grey(names)


def write_svhn(root: Path) -> Name:
    (root / "svhn").mkdir(parents=True)
    for split, count in (("train", 30), ("test", 13)):
        digits = np.arange(count) % 10
        pixels = np.broadcast_to((10 + 13 * digits).astype(np.uint8), (32, 32, 3, count))
        labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        savemat(root / "svhn" / f"{split}_32x32.mat", {"X": pixels, "y": labels})
    return by_grey("0123456789")


def write_retinopathy(root: Path) -> Name:
    folder = root / "diabetic-retinopathy-detection"
    for listing, images, count in (
        ("trainLabels", "train", 20),
        ("retinopathy_solution", "test", 20),
    ):
        rows = [(f"{n // 2}_{'left' if n % 2 else 'right'}", n % 5) for n in range(count)]
        for name, level in rows:
            flat(folder / images / f"{name}.jpeg", grey(level))
        with (folder / f"{listing}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            if images == "train":
                writer.writerows([("image", "level"), *rows])
            else:
                usages = ["Public" if n < 5 else "Private" for n in range(20)]
                writer.writerow(("image", "level", "Usage"))
                writer.writerows((*row, usage) for row, usage in zip(rows, usages, strict=True))
    return by_grey(("none", "mild", "moderate", "severe", "proliferative"))


def write_eurosat(root: Path) -> Name:
    return _class_folders(root / "eurosat/2750", ["AnnualCrop", "Forest"], "{}_{}.jpg")


def write_resisc45(root: Path) -> Name:
    return _class_folders(root / "NWPU-RESISC45", ["airplane", "airport"], "{}_{:03d}.jpg")


def _class_folders(folder: Path, names: list[str], form: str) -> Name:
    for label, name in enumerate(names):
        for number in range(1, 11):
            flat(folder / name / form.format(name, number), grey(label))
    return by_grey(names)


def write_camelyon(root: Path) -> Name:
    (root / "pcam").mkdir(parents=True)
    for split, count in (("train", 12), ("valid", 6), ("test", 5)):
        labels = (np.arange(count) % 2).astype(np.uint8)
        pixels = np.broadcast_to((10 + 13 * labels)[:, None, None, None], (count, 96, 96, 3))
        stem = root / f"pcam/camelyonpatch_level_2_split_{split}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = pixels.astype(np.uint8)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = labels.reshape(-1, 1, 1, 1)
    return by_grey(("normal", "tumour"))


def clevr_scene(split: str, number: int, depths: list[float]) -> dict[str, object]:
    objects = [
        {"shape": "cube", "color": "red", "pixel_coords": [100, 80, depth], "rotation": 0.0}
        for depth in depths
    ]
    name = f"CLEVR_{split}_{number:06d}.png"
    return {"image_index": number, "image_filename": name, "split": split, "objects": objects}


#: Closest object in each of CLEVR's ranges.
CLEVR_DEPTHS = (7.0, 8.2, 8.7, 9.3, 9.9, 12.0)


def write_clevr(root: Path) -> tuple[Name, Name]:
    """Red tells how many objects, green how far the closest is."""
    folder = root / "clevr/CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for split, count in (("train", 24), ("val", 8), ("test", 1)):
        scenes = []
        for number in range(count):
            objects, distance = number % 8, number % 6
            path = folder / "images" / split / f"CLEVR_{split}_{number:06d}.png"
            flat(path, grey(objects), grey(distance), 0)
            depths = [13.0] * (objects + 2) + [CLEVR_DEPTHS[distance]]
            scenes.append(clevr_scene(split, number, depths))
        if split != "test":
            text = json.dumps({"info": {"split": split}, "scenes": scenes[::-1]})
            (folder / "scenes" / f"CLEVR_{split}_scenes.json").write_text(text)
    ranges = ("0 to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "10 to 100")
    return (
        lambda pixels: ranges[label_of(float(pixels[..., 1].mean()))],
        lambda pixels: str(label_of(float(pixels[..., 0].mean())) + 3),
    )


def tfrecord(examples: Iterable[bytes]) -> bytes:
    """The bytes of a TFRecord file."""

    def checked(data: bytes) -> bytes:
        return data + struct.pack("<I", masked(crc32c(data)))

    return b"".join(checked(struct.pack("<Q", len(e))) + checked(e) for e in examples)


def example(image: bytes, label: int, filename: bytes, *, packed: bool = True) -> bytes:
    """A serialised tf.train.Example as TensorFlow writes it (feature.proto)."""

    def field(number: int, data: bytes) -> bytes:
        length, size = b"", len(data)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    def entry(name: bytes, feature: bytes) -> bytes:
        return field(1, field(1, name) + field(2, feature))

    number = field(1, bytes([label])) if packed else bytes([1 << 3, label])
    entries = [
        entry(b"image", field(1, field(1, image))),
        entry(b"label", field(3, number)),
        entry(b"filename", field(1, field(1, filename))),
    ]
    return field(1, b"".join(entries))


def write_dmlab(root: Path) -> Name:
    (root / "dmlab").mkdir(parents=True)
    for split, count in (("train", 18), ("validation", 8), ("test", 7)):
        examples = []
        for number in range(count):
            path = root / "frame.jpg"
            flat(path, grey(number % 6), size=(48, 36))
            name = f"{split}_{number}".encode()
            examples.append(example(path.read_bytes(), number % 6, name, packed=number % 2 == 0))
            path.unlink()
        half = count // 2
        for shard, part in enumerate((examples[:half], examples[half:])):
            path = root / "dmlab" / f"dmlab-{split}.tfrecord-0000{shard}-of-00002"
            path.write_bytes(tfrecord(part))
    return by_grey("012345")


def write_dsprites(root: Path) -> tuple[Name, Name]:
    """White columns tell the orientation above and the x position below."""
    (root / "dsprites").mkdir(parents=True)
    count = 200
    draw = np.random.RandomState(1)
    latents = np.zeros((count, 6), dtype=np.int64)
    latents[:, 3] = draw.permutation(np.arange(count) % 40)
    latents[:, 4] = draw.permutation(np.arange(count) % 32)
    images = np.zeros((count, 64, 64), dtype=np.uint8)
    for image, latent in zip(images, latents, strict=True):
        image[:32, : latent[3]] = 1
        image[32:, : latent[4]] = 1
    np.savez_compressed(
        root / "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        metadata=np.array({"title": "dSprites"}, dtype=object),  # pickled, as published
        imgs=images,
        latents_classes=latents,
        latents_values=latents.astype(np.float64),
    )

    def name(rows: slice, values: int) -> Name:
        return lambda p: str(int((p[rows, :, 0] > 127).mean(0).sum().round() / (values / 16)))

    return name(slice(32), 40), name(slice(32, None), 32)


def norb_matrix(array: npt.NDArray[np.generic]) -> bytes:
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack(f"<{2 + len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()


def write_smallnorb(root: Path) -> tuple[Name, Name]:
    """Left of the left camera's image tells the azimuth, right of it the elevation."""
    (root / "smallnorb").mkdir(parents=True)
    for stem, count in (
        ("smallnorb-5x46789x9x18x6x2x96x96-training", 54),
        ("smallnorb-5x01235x9x18x6x2x96x96-testing", 72),
    ):
        azimuth, elevation = np.arange(count) % 18, np.arange(count) % 9
        info = np.stack([azimuth * 0, elevation, azimuth * 2, azimuth * 0], axis=1)
        images = np.full((count, 2, 96, 96), 255, dtype=np.uint8)  # 255: the right camera
        images[:, 0, :, :48] = (10 + 13 * azimuth)[:, None, None]
        images[:, 0, :, 48:] = (10 + 13 * elevation)[:, None, None]
        for kind, array in (
            ("dat", images),
            ("info", info.astype(np.int32)),
            ("cat", elevation.astype(np.int32)),
        ):
            (root / "smallnorb" / f"{stem}-{kind}.mat").write_bytes(norb_matrix(array))
    return (
        lambda pixels: f"{20 * label_of(float(pixels[:, 0, 0].mean()))}°",
        lambda pixels: f"{30 + 5 * label_of(float(pixels[:, -1, 0].mean()))}°",
    )


#: What the closest vehicle of a KITTI frame is at, by class; None is no vehicle.
KITTI_DEPTHS = (5.0, 15.0, 40.0, None)


def kitti_line(kind: str, depth: float) -> str:
    return f"{kind} 0.00 0 -1.57 10.0 20.0 30.0 40.0 1.5 1.6 3.9 -2.0 1.7 {depth} -1.6"


def write_kitti(root: Path, *, drives: int = 12, devkit: bool = True) -> Name:
    folder = root / "Kitti/raw"
    frames = 4 * drives
    (folder / "training/label_2").mkdir(parents=True)
    for frame in range(frames):
        label = frame % 4
        depth = KITTI_DEPTHS[label]
        lines = [kitti_line("Pedestrian", 2.0), "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -9 -9 -9 -10"]
        if depth is not None:
            lines += [kitti_line("Car", depth + 1), kitti_line("Truck", depth)]
        (folder / "training/label_2" / f"{frame:06d}.txt").write_text("\n".join(lines) + "\n")
        flat(folder / "training/image_2" / f"{frame:06d}.png", grey(label), size=(62, 19))
    if devkit:
        mapping = folder / "devkit_object/mapping"
        mapping.mkdir(parents=True)
        lines = [
            f"2011_09_26 2011_09_26_drive_{frame // 4:04d}_sync {frame:010d}"
            for frame in range(frames)
        ]
        (mapping / "train_mapping.txt").write_text("\n".join(lines) + "\n")
        (mapping / "train_rand.txt").write_text(",".join(str(n + 1) for n in range(frames)))
    return by_grey(("to 8 m", "8 to 20 m", "more than 20 m", "no vehicle"))


def write_lists(root: Path, folder: str, classes: list[int], test_classes: list[int]) -> None:
    """A task of the VTAB-1k lists: these labels in training and in the test."""
    for listing, images, labels in (
        ("train800val200.txt", "train800val200", classes),
        ("test.txt", "test", test_classes),
    ):
        lines = []
        for number, label in enumerate(labels):
            name = f"images/{images}/{number:06d}.jpg"
            flat(root / folder / name, grey(label % 18))
            lines.append(f"{name} {label}")
        (root / folder / listing).write_text("\n".join(lines) + "\n")


def write_all(root: Path) -> dict[str, Name]:
    """All 18 tasks, and how to tell their classes."""
    distance, count = write_clevr(root)
    orientation, location = write_dsprites(root)
    azimuth, elevation = write_smallnorb(root)
    return {
        "caltech101": write_caltech101(root),
        "cifar100": write_cifar100(root),
        "flowers102": write_flowers102(root),
        "pets": write_pets(root),
        "sun397": write_sun397(root),
        "svhn": write_svhn(root),
        "retinopathy": write_retinopathy(root),
        "eurosat": write_eurosat(root),
        "resisc45": write_resisc45(root),
        "camelyon": write_camelyon(root),
        "clevr-distance": distance,
        "clevr-count": count,
        "dmlab": write_dmlab(root),
        "dsprites-orientation": orientation,
        "dsprites-location": location,
        "smallnorb-azimuth": azimuth,
        "smallnorb-elevation": elevation,
        "kitti": write_kitti(root),
    }
