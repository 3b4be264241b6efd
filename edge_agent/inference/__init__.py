"""Frame to probability map. In: uint8 pictures of the network's size. Out: uint8 maps per defect class and a float peak.

The engine runs on threads of its own and calls back; preparation runs on the inspect worker. A failure is an EngineError
(the part is FAULT engine), an unusable model file a ConfigurationError (exit 78).
"""
