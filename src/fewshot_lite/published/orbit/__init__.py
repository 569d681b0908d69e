"""ORBIT: videos of their own objects, recorded by people who are blind (Massiceti et al. 2021).

    ROOT/{train,validation,test}/P177/bag/{clean,clutter}/VIDEO/VIDEO-00001.jpg
    ROOT/annotations/{train,validation,test}/VIDEO.json

Nothing is downloaded: https://city.figshare.com/articles/dataset/_/14294597 has the frames and
https://github.com/microsoft/ORBIT-Dataset the annotations (data/orbit_extra_annotations.zip).
"""
