"""First papers for a file that has none: what they take from it, and what they cannot be written for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from bright import save, write_float_model
from onnx import TensorProto, helper
from stations import Program

from edge_agent.errors import ConfigurationError
from edge_agent.inference.cpu import examine
from edge_agent.inference.describe import first_papers
from edge_agent.inference.model import load_model


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("kind", "head", "channels"), [("probability", "softmax", 3), ("logits", "sigmoid", 1), ("logits", "softmax", 2)]
)
def test_they_run_as_they_are(tmp_path: Path, layout: str, kind: str, head: str, channels: int) -> None:
    folder = write_float_model(tmp_path / "m", layout, kind, head, channels)
    has = load_model(folder).papers
    (folder / "model.yaml").write_text(first_papers(folder / "model.onnx", None, None))
    told = load_model(folder).papers
    assert (told.output.kind, told.output.layout, told.input.layout, told.head) == (kind, layout, layout, head)
    assert (told.channels, told.background_place) == (has.channels, has.background_place)
    examine(load_model(folder))


def network(folder: Path, op: str, shape: list, **attributes: object) -> Path:
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, list("abcd")[: 2 if op == "Flatten" else len(shape)])]
    save(folder, [helper.make_node(op, ["frames"], ["out"], **attributes)], inputs, outputs, [])
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "message"),
    [
        ("Flatten", ["n", 1, 8, 8], {}, r"it gives out \(1, 64\); a map of four dimensions is needed"),
        ("Sigmoid", ["n", 64], {}, r"it takes frames \(\?, 64\) float32; one batch of pictures is needed"),
        ("Sigmoid", ["n", 1, "h", "w"], {}, r"its size is open.*--rows and --cols"),
    ],
)
def test_what_no_papers_can_be_written_for_is_told(tmp_path: Path, op: str, shape: list, attributes: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        first_papers(network(tmp_path / "m", op, shape, **attributes), None, None)


def test_an_open_size_is_the_one_given(tmp_path: Path, edge_agent: Program, within: Program) -> None:
    file = network(tmp_path / "m", "Sigmoid", ["n", 1, "h", "w"])
    told = edge_agent("describe-model", file, "--rows", 48, "--cols", 32)
    assert told.returncode == 0, told.stderr
    assert (yaml.safe_load(told.stdout)["input"]["rows"], yaml.safe_load(told.stdout)["input"]["cols"]) == (48, 32)
    missing = within("describe-model", tmp_path / "none.onnx")
    assert missing.returncode == 78
    assert "none.onnx cannot be used: it cannot be read: No such file" in missing.stderr


def test_another_scale_is_another_engine_and_another_score_is_not(tmp_path: Path) -> None:
    folder = write_float_model(tmp_path / "m", "NCHW", "logits", "sigmoid", 1)
    first = load_model(folder).papers.interface
    told = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump({**told, "scores": {"auc": 1.0}}))
    assert load_model(folder).papers.interface == first
    told["input"]["scale"] = 1 / 128
    (folder / "model.yaml").write_text(yaml.safe_dump(told))
    assert load_model(folder).papers.interface != first


@pytest.mark.parametrize(
    ("op", "shape", "kind", "remedy"),
    [
        ("Sigmoid", ["n", 1, 8, 8], TensorProto.FLOAT16, "export it as float32"),
        ("Sigmoid", ["n", 8, 8], TensorProto.FLOAT, "export it with four dimensions"),
    ],
)
def test_what_the_file_takes_is_told_with_what_mends_it(tmp_path: Path, op: str, shape: list, kind: int, remedy: str) -> None:
    ports = [helper.make_tensor_value_info(name, kind, shape) for name in ("frames", "out")]
    save(tmp_path / "m", [helper.make_node(op, ["frames"], ["out"])], ports[:1], ports[1:], [])
    with pytest.raises(ConfigurationError, match=remedy):
        first_papers(tmp_path / "m" / "model.onnx", None, None)


def test_a_color_network_of_keras_is_told_its_size_and_channels(tmp_path: Path) -> None:
    told = yaml.safe_load(first_papers(network(tmp_path / "m", "Sigmoid", ["n", 48, 32, 3]), None, None))["input"]
    assert (told["layout"], told["rows"], told["cols"]) == ("NHWC", 48, 32)


def test_names_of_any_letters_are_told_as_they_are_and_a_file_that_papers_cannot_name_is_refused(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 8, 8]) for name in ('a "b"\\c', "größe, #1: {x}")]
    save(tmp_path / "m", [helper.make_node("Sigmoid", [ports[0].name], [ports[1].name])], ports[:1], ports[1:], [])
    file = tmp_path / "m" / "model.onnx"
    told = yaml.safe_load(first_papers(file, None, None))
    assert (told["input"]["name"], told["output"]["map"]) == (ports[0].name, ports[1].name)
    with pytest.raises(ConfigurationError, match=r"cannot name a file called 'my model\.onnx'.*letters, digits"):
        first_papers(file.rename(file.with_name("my model.onnx")), None, None)
