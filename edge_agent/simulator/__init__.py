"""A GigE Vision camera without a camera. In: settings, pulses on its Line0, faults on demand. Out: GVCP and GVSP over UDP, as a
real camera would, and the truth: what became of every trigger.

Three threads: `sim-control` answers the control channel and resends packets, `sim-stream` exposes and sends pictures, `sim-pulses`,
where a trigger rate is set, pulses Line0. `pulse` and the faults may be called from any thread. Opening raises CameraError or
ConfigurationError; after that nothing fails but on demand: what a host sends wrongly is answered by its status code.
"""

from __future__ import annotations

from edge_agent.simulator.camera import SimulatedCamera
from edge_agent.simulator.faults import FRAME_FAULTS, FaultPlan, Happening, Truth, parse_faults
from edge_agent.simulator.pictures import read_sequence
from edge_agent.simulator.registers import MODEL_NAME

__all__ = ["SimulatedCamera", "FaultPlan", "FRAME_FAULTS", "MODEL_NAME", "Truth", "Happening", "parse_faults", "read_sequence"]
