"""What `edge-agent benchmark` measures, one subject each."""
