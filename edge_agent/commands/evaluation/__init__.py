"""How `edge-agent evaluate` goes about it: the split, the line over all images, figures, plots, gallery and report."""
