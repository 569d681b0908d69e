"""VTAB-v2's 18 tasks, read from the files that their authors publish; nothing is downloaded.

`catalogue` is the table of tasks: group, source of the data, layout on disk.
"""
