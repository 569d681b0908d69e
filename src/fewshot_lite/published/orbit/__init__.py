"""ORBIT: videos of their own objects, recorded by people who are blind (Massiceti et al. 2021).

    ROOT/{train,validation,test}/P177/bag/{clean,clutter}/VIDEO/VIDEO-00001.jpg
    ROOT/annotations/{train,validation,test}/VIDEO.json

Nothing is downloaded: https://city.figshare.com/articles/dataset/_/14294597 has the frames and
https://github.com/microsoft/ORBIT-Dataset the annotations (data/orbit_extra_annotations.zip).
"""

from fewshot_lite.published.orbit.annotations import frames_with_object
from fewshot_lite.published.orbit.check import describe
from fewshot_lite.published.orbit.folders import scan_orbit
from fewshot_lite.published.orbit.layout import (
    MODES,
    OrbitFolder,
    OrbitObject,
    User,
    Video,
    find_orbit,
    read_users,
)

__all__ = [
    "MODES",
    "OrbitFolder",
    "OrbitObject",
    "User",
    "Video",
    "describe",
    "find_orbit",
    "frames_with_object",
    "read_users",
    "scan_orbit",
]
