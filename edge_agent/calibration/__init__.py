"""A network made cheaper: half precision and 8 bits, written into its ONNX. In: a finished graph and tensors of the line's own
preparation. Out: candidates, graphs with the same ports. Whether one may judge parts is not decided here.

Needs onnx and onnxruntime, no GPU and no torch; runs on the caller's thread for seconds to minutes. What cannot be calibrated is a
ConfigurationError.

- `trunk`: which nodes compute in the lower precision.  - `ranges`: what each activation takes, measured.
- `half`: FP16.  - `eightbit`: Q/DQ.  - `candidates`: all of them, by their names.
"""
