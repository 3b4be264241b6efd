"""What a person types at the station, one file each; what a large command is made of has a folder beside it.

A command may know several rooms; no room knows a command.
"""
