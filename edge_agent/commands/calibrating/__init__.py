"""How `edge-agent calibrate` goes about it: images, the trial of each candidate and its gate, manifest and report."""
