"""A builder that goes on until it is let end: `python -m slow_builder` in the place of the process that builds engines."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from fake_tensorrt import plan_of


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    go, step = Path(os.environ["SLOW_BUILDER_GO"]), 0
    while not go.exists():
        step += 1
        print(json.dumps({"kind": "progress", "text": "tactics", "step": step, "steps": 99}), flush=True)
        time.sleep(0.01)
    Path(order["plan"]).write_bytes(plan_of(1, 64, 64))
    print(json.dumps({"kind": "done"}), flush=True)


if __name__ == "__main__":
    main()
