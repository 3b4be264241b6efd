"""The datacenter's side, a process of its own. In: rows from many stations. Out: a database and a folder of pictures.

It acknowledges only what it has committed durably, and takes every row any number of times.
"""
