"""Is this model good enough to judge parts? Pure: arrays and counts in, rates with bounds out; no file, socket, thread or clock.

Positive means defective. A slip is a defective part that passed, a false reject a good part that did not.
"""
