"""What a person types at the station, one file each. A command may know several rooms; no room knows a command."""
