"""Probability map to blobs. Pure: no file, socket, thread or clock. Runs on the inspect worker.

In: uint8 maps (classes, rows, cols) of a region. Out: `Blob`s in frame coordinates. This is where (row, col) becomes x, y.
"""
