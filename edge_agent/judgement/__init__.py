"""Blobs to outcome. Pure: no file, socket, thread or clock. Runs on the inspect worker.

In: blobs, areas and the recipe. Out: a finding for every rule, for PASS as well, and the judgement of the part.
"""
