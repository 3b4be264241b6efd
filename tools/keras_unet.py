"""Builds a U-Net in Keras, teaches it drawn surfaces for a while and exports it as ONNX: a network from another house.

    python -m venv keras && keras/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1 tf2onnx==1.17.0
    keras/bin/python tools/keras_unet.py --out MODEL                    # the tutorial's: 16 filters, 512x512, 1,942,289 weights
    keras/bin/python tools/keras_unet.py --out MODEL --filters 2 --size 64 --steps 600

Those versions worked together on Python 3.11. MODEL gets model.onnx, its papers model.yaml, and reference.npz: `frames`
(n, rows, cols) uint8 and Keras's own `probabilities` (n, rows, cols) float32 of them. Needs nothing of edge_agent, and
edge_agent nothing of it: docs/models.md tells the same steps for a network of your own.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 4
TUTORIAL = (16, 1_942_289)  # filters, and the trainable weights that they must give
BATCH = 8
REFERENCES = 6  # surfaces, every other one with a defect
PAPERS = """\
name: {name}
version: 1
onnx: {{file: model.onnx, sha256: {sha256}}}
input: {{name: {taken}, layout: NHWC, dtype: float32, rows: {size}, cols: {size}, scale: 0.00392156862745098}}
output: {{kind: probability, map: "{given}", layout: NHWC}}
head: sigmoid
classes: [defect]
stride: {stride}
training: {{data: drawn by tools/keras_unet.py, command: "{command}"}}
"""


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="the model's folder, named as the model")
    p.add_argument("--filters", type=int, default=TUTORIAL[0], help="of the first level; each level has twice as many")
    p.add_argument("--size", type=int, default=512, help="rows and columns")
    p.add_argument("--steps", type=int, default=20, help=f"of training, {BATCH} drawn surfaces each")
    p.add_argument("--opset", type=int, default=17)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    if min(args.filters, args.size, args.steps) < 1 or args.seed < 0:
        p.error("--filters, --size and --steps take 1 or more, --seed 0 or more")
    if args.size % (1 << LEVELS):
        p.error(f"--size {args.size}: take a multiple of {1 << LEVELS}, since {LEVELS} poolings halve it")
    return args


def command_of(args: argparse.Namespace) -> str:
    """What makes the same model again, for its papers."""
    told = ("filters", "size", "steps", "opset", "seed")
    return " ".join(["tools/keras_unet.py", *(f"--{name} {getattr(args, name)}" for name in told)])


def build(keras: Any, filters: int, size: int) -> Any:
    """(batch, size, size, 1) floats 0..1 to (batch, size, size, 1) probabilities."""
    layers = keras.layers

    def block(x: Any, width: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        return x

    x = frame = keras.Input((size, size, 1), name="frame")
    skipped = []
    for level in range(LEVELS):
        x = block(x, filters << level)
        skipped.append(x)
        x = layers.Dropout(0.1)(layers.MaxPooling2D(2)(x))
    x = block(x, filters << LEVELS)
    for level in reversed(range(LEVELS)):
        x = layers.Conv2DTranspose(filters << level, 2, strides=2)(x)
        x = block(layers.Dropout(0.1)(layers.Concatenate()([x, skipped.pop()])), filters << level)
    return keras.Model(frame, layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x))


def draw(rng: np.random.Generator, size: int, is_defective: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One surface with grain, and where it has its defect, a brighter ellipse."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    frame = 110 + rng.uniform(-25, 25) + rng.normal(0, 6, (size, size)) + 10 * np.sin((x + y) * rng.uniform(0.02, 0.2))
    mask = np.zeros((size, size), np.float32)
    if is_defective:
        row, col = rng.uniform(0.2, 0.8, 2) * size
        high, wide = rng.uniform(0.05, 0.12, 2) * size
        mask[((y - row) / high) ** 2 + ((x - col) / wide) ** 2 < 1] = 1
        frame += mask * rng.uniform(50, 80)
    return frame.clip(0, 255).round().astype(np.uint8), mask


def strange(rng: np.random.Generator, size: int) -> list[NDArray[np.uint8]]:
    """Pictures that no surface is like: noise and a ramp, whose maps have every probability in them."""
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    return [rng.integers(0, 256, (size, size), dtype=np.uint8), np.broadcast_to(ramp, (size, size)).copy()]


def train(keras: Any, network: Any, args: argparse.Namespace) -> None:
    """Teach it what a defect is: cross-entropy, a fresh batch each step."""
    rng = np.random.default_rng(args.seed)
    network.compile(optimizer=keras.optimizers.Adam(3e-3), loss="binary_crossentropy")
    for step in range(args.steps):
        pairs = [draw(rng, args.size, i % 2 == 0) for i in range(BATCH)]
        frames = np.stack([frame for frame, _ in pairs])[..., None].astype(np.float32) / 255
        loss = network.train_on_batch(frames, np.stack([mask for _, mask in pairs])[..., None])
        if step % 50 == 49 or step == args.steps - 1:
            print(f"step {step + 1}: loss {float(np.ravel(loss)[0]):.4f}", flush=True)


def ports(file: Path) -> tuple[str, str]:
    """The names of input and output as the exporter gave them."""
    import onnx

    graph = onnx.load(file).graph
    return graph.input[0].name, graph.output[0].name


def main() -> None:
    import keras

    args = parse()
    keras.utils.set_random_seed(args.seed)
    network = build(keras, args.filters, args.size)
    weights = sum(int(np.prod(each.shape)) for each in network.trainable_weights)
    print(f"{weights} trainable weights, {network.count_params() - weights} of batch normalisation's running statistics")
    if args.filters == TUTORIAL[0] and weights != TUTORIAL[1]:
        raise SystemExit(f"{TUTORIAL[0]} filters must give {TUTORIAL[1]} weights: build() is not the tutorial's network any more")
    train(keras, network, args)

    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "model.onnx"
    network.export(str(file), format="onnx", opset_version=args.opset, verbose=False)
    taken, given = ports(file)

    rng = np.random.default_rng(args.seed + 1)
    frames = np.stack([draw(rng, args.size, i % 2 == 0)[0] for i in range(REFERENCES)] + strange(rng, args.size))
    told = network.predict(frames[..., None].astype(np.float32) / 255, batch_size=1, verbose=0)[..., 0]
    np.savez_compressed(args.out / "reference.npz", frames=frames, probabilities=told)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    told_by = {"name": args.out.name, "sha256": sha256, "size": args.size, "stride": 1 << LEVELS, "command": command_of(args)}
    (args.out / "model.yaml").write_text(PAPERS.format(**told_by, taken=taken, given=given))
    print(f"{args.out}: model.onnx ({file.stat().st_size} bytes), model.yaml and reference.npz are written")


if __name__ == "__main__":
    main()
