"""Name photos by what `fewshot-lite export` wrote: python run_onnx.py personal.onnx PHOTO ..."""

import json
import sys

import numpy
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["fewshot_lite"])
size, limit = about["image_size"], about["threshold"] or float("inf")
for path in sys.argv[2:]:
    photo = Image.open(path)  # of a large JPEG, a reduced one is decoded:
    photo.draft(None, [int(x / max(1, min(photo.size) / 2 / size)) for x in photo.size])
    photo = ImageOps.exif_transpose(photo).convert("RGB")
    (w, h), side = photo.size, min(photo.size)
    square = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    photo = photo.resize((size, size), Image.Resampling.BILINEAR, square, reducing_gap=3)
    (p,), (strange,) = session.run(None, {"pixels": numpy.asarray(photo)[None]})
    print(path, f"{about['class_names'][p.argmax()]} {p.max():.1%}" if strange <= limit else "?")
