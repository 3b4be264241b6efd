"""The edge inspection daemon: a part's trigger becomes a verdict at the PLC and evidence in the datacenter.

The story of one part: a trigger is registered with the publisher, which numbers it and starts its clock; a camera
fills a frame slot; the picture is checked, prepared and segmented into a probability map; the map becomes blobs, the
blobs findings, the findings an outcome. The publisher claims the outcome once, writes it to the journal, tells the PLC,
and leaves the record in the outbox, from where it reaches the collector. `line.py` tells it in code.
"""

__version__ = "0.1.0"
