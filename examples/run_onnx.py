"""Name photos with a model that `fewshot-lite export` wrote: run_onnx.py personal.onnx PHOTO ..."""

import json, sys
import numpy, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["fewshot_lite"])
size, names = about["image_size"], about["class_names"]
for path in sys.argv[2:]:
    photo = Image.open(path)
    scale = max(1, min(photo.size) / (2 * size))
    photo.draft(None, [int(side / scale) for side in photo.size])  # large JPEGs: decode less
    photo = ImageOps.exif_transpose(photo).convert("RGB")  # upright
    (w, h), side = photo.size, min(photo.size)
    square = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    photo = photo.resize((size, size), Image.Resampling.BILINEAR, square, reducing_gap=3)
    (p,), (strangeness,) = session.run(None, {"pixels": numpy.asarray(photo)[None]})
    known = about["threshold"] is None or strangeness <= about["threshold"]
    print(f"{path}: {names[p.argmax()]} {p.max():.1%}" if known else f"{path}: unknown")
