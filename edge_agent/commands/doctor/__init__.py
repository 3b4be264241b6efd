"""What `edge-agent check` looks at, one subject each, and how its finds read."""
