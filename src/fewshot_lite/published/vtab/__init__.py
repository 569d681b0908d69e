"""VTAB-v2's 18 tasks from the files their authors publish; nothing here downloads.

`catalogue` is the table: task, group, where the data comes from, what it looks like on disk.
"""
