"""Verdicts for a PLC that speaks no ZeroMQ: heartbeats and verdicts in, registers out, commands back to the station.

`registers.py` is the map, `exchange.py` the handshake (both pure), `modbus.py` the server, on the connections of
`connections.py`. It runs in a process of its own (`edge-agent modbus`), which can hold up no line; where it fails, or hears
nothing, no register says PASS.
"""
