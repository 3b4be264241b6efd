"""A model that is not what its papers say is refused before any part, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from bright import constant, gray, save, write_float_model, write_papers
from modelsdoc import phrases
from onnx import TensorProto, helper
from stations import ROOT, Program, an_ordinary_user

from edge_agent.errors import ConfigurationError
from edge_agent.inference.cpu import examine
from edge_agent.inference.model import load_model

Edit = Callable[[Path], None]
INPUT = {"name": "frames", "layout": "NCHW", "dtype": "float32", "rows": 32, "cols": 32, "scale": 1 / 255}
OUTPUT = {"kind": "probability", "map": "out", "layout": "NCHW"}
SIZE = 32
ROWS = phrases((ROOT / "docs" / "models.md").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_float_model(tmp_path / "m", "NCHW", "probability", "sigmoid", 1)


def papers(**changes: object) -> Edit:
    """Change keys of the papers; `input_*` and `output_*` those inside."""

    def edit(folder: Path) -> None:
        file = folder / "model.yaml"
        told = yaml.safe_load(file.read_text())
        for key, value in changes.items():
            place, _, inner = key.partition("_")
            if inner:
                told[place][inner] = value
            else:
                told[key] = value
        file.write_text(yaml.safe_dump(told))

    return edit


def file(op: str = "Sigmoid", taken: list | None = None, given: list | None = None, **more: object) -> Edit:
    """Another network: one operator on frames of shape `taken`, told to give the shape `given`."""
    dtype = int(more.pop("dtype", TensorProto.FLOAT))
    gives = int(more.pop("gives", TensorProto.FLOAT))
    opset, domain = int(more.pop("opset", 18)), str(more.pop("domain", ""))

    def edit(folder: Path) -> None:
        names = ["frames", *(str(name) for name in more.pop("beside", ()))]  # type: ignore[attr-defined]
        inputs = [helper.make_tensor_value_info(name, dtype, taken or ["n", 1, SIZE, SIZE]) for name in names]
        outputs = [helper.make_tensor_value_info("out", gives, given or ["n", "c", "h", "w"])]
        graph = helper.make_graph([helper.make_node(op, names, ["out"], domain=domain, **more)], "g", inputs, outputs)
        imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), str(folder / "model.onnx"))
        write_papers(folder, SIZE, SIZE, input=INPUT, output=OUTPUT)

    return edit


def bytes_of(data: bytes) -> Edit:
    def edit(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(data)
        write_papers(folder, SIZE, SIZE, input=INPUT, output=OUTPUT)

    return edit


def both(*edits: Edit) -> Edit:
    def edit(folder: Path) -> None:
        for each in edits:
            each(folder)

    return edit


def damaged(folder: Path) -> None:
    with open(folder / "model.onnx", "ab") as end:
        end.write(b"x")


def weights_elsewhere(folder: Path) -> None:
    network = onnx.load(str(folder / "model.onnx"))
    onnx.save(network, str(folder / "model.onnx"), save_as_external_data=True, size_threshold=0, location="weights.bin")
    write_papers(folder, SIZE, SIZE, input=INPUT, output=OUTPUT)


def a_weight_is_nan(folder: Path) -> None:
    write_float_model(folder, "NCHW", "probability", "sigmoid", 1, slope=float("nan"))


def not_probabilities(folder: Path) -> None:
    write_float_model(folder, "NCHW", "logits", "sigmoid", 1, told="probability")


def a_classifier(folder: Path) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["frames"], ["mean"]), helper.make_node("Flatten", ["mean"], ["out"])]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])]
    save(folder, nodes, inputs, [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 1])], [])
    write_papers(folder, SIZE, SIZE, input=INPUT, output=OUTPUT)


def a_smaller_map(folder: Path) -> None:
    nodes = [helper.make_node("MaxPool", ["frames"], ["out"], kernel_shape=[2, 2], strides=[2, 2])]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])]
    save(folder, nodes, inputs, [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "a", "b", "c"])], [])
    write_papers(folder, SIZE, SIZE, input=INPUT, output=OUTPUT)


REFUSALS: list[tuple[str, Edit, str]] = [
    (
        "missing file",
        lambda folder: (folder / "model.onnx").unlink(),
        r"model\.onnx cannot be read: No such file.*put it there, or mend the path",
    ),
    ("other file", damaged, r"damaged or another model.*for a new one, give its hash"),
    ("no ONNX", bytes_of(b"no network at all"), r"model\.onnx cannot be used.*no ONNX file.*export the network as ONNX"),
    ("empty file", bytes_of(b""), r"model\.onnx cannot be used.*no network in it"),
    ("new opset", file(opset=99), r"operator set 99; 13 to \d+ can be read.*opset 17"),
    ("old opset", file(opset=9), r"operator set 9; 13 to"),
    ("unknown op", file("Frobnicate", domain="com.acme"), r"No conversion rule found for operations: com\.acme\.Frobnicate.*opset"),
    ("weights elsewhere", weights_elsewhere, r"weights lie in another file, which no hash covers.*external_data=False"),
    ("input name", papers(input_name="image"), r"input\.name is 'image', the file has frames \(\?, 1, 32, 32\).*give one"),
    ("output name", papers(output_map="y"), r"output\.map is 'y', the file has out.*give one of them"),
    ("second input", file("Max", beside=["prior"]), r"takes prior beside 'frames'.*only input"),
    ("input layout", papers(input_layout="NHWC"), r"input\.layout is NHWC, but .*\(\?, 1, 32, 32\): that is NCHW"),
    (
        "output layout",
        papers(output_layout="NHWC"),
        r"output\.layout is NHWC, but 'out' has the shape \(1, 1, 32, 32\): that is NCHW",
    ),
    ("uint8 said", papers(input_dtype="uint8", input_scale=1.0), r"input\.dtype is uint8, the file takes float32.*give that"),
    (
        "float16 taken",
        file(dtype=TensorProto.FLOAT16),
        r"input\.dtype is float32, the file takes float16.*export it with a float32",
    ),
    ("batch of four", file(taken=[4, 1, SIZE, SIZE]), r"takes 4 pictures at once, the station gives 1.*batch of 1"),
    ("three channels", file(taken=["n", 3, SIZE, SIZE]), r"takes 3 channels, a gray frame has 1"),
    ("no picture", file(taken=["n", 1024]), r"shape \(\?, 1024\), which is no batch of pictures"),
    ("other size", papers(input_rows=64), r"input has 64 rows and 32 cols, the file takes 32 rows and 32 cols only"),
    ("stride", papers(stride=5), r"rows: is 32, not a multiple of the stride 5.*give a multiple"),
    ("no scale", papers(input_scale=None), r"input\.scale is missing.*scale: 0\.00392157.*scale: 1\.0"),
    ("scale upside down", papers(input_scale=255.0), r"scale: is 255: gray 0\.\.255 would become 0\.\.65025"),
    ("scale of zero", papers(input_scale=0.0), r"scale: is 0: gray 0\.\.255 would become 0\.\.0"),
    ("too many classes", papers(classes=["a", "b"]), r"with 1 channels; 2 classes and no background make 2.*mend classes"),
    ("background", papers(background="last"), r"with 1 channels; 1 classes and the background last make 2"),
    ("same class twice", papers(classes=["a", "a"]), r"classes: names a twice"),
    ("softmax over one", papers(head="softmax", background="none"), r"softmax over one class is 1 everywhere.*head: sigmoid"),
    ("peak of floats", papers(output_peak="peak"), r"kind probability has no peak.*remove"),
    ("floats as map", papers(output={**OUTPUT, "kind": "map_and_peak", "peak": "out"}), r"map_and_peak, but 'out' gives float32"),
    (
        "class numbers",
        file("ArgMax", axis=1, gives=TensorProto.INT64),
        r"'out' gives int64.*before they are turned into class numbers",
    ),
    ("classifier", a_classifier, r"'out' has the shape \(1, 1\): one answer for the whole picture, no map"),
    ("smaller map", a_smaller_map, r"\(1, 1, 16, 16\), a map of 32 rows and 32 cols is needed.*scale it"),
    ("NaN", a_weight_is_nan, r"on a black picture: 32 of 1024 values are NaN or infinite: a weight is damaged"),
    ("no probabilities", not_probabilities, r"values go from -20 to -20, so they are no probabilities.*output\.kind"),
]


@pytest.mark.parametrize(("edit", "message"), [pytest.param(e, m, id=name.replace(" ", "-")) for name, e, m in REFUSALS])
def test_a_wrong_model_is_refused_with_its_reason_and_remedy(folder: Path, edit: Edit, message: str) -> None:
    edit(folder)
    with pytest.raises(ConfigurationError, match=f"(?s){message}") as refused:
        examine(load_model(folder))
    assert refused.value.exit_code == 78
    for problem in refused.value.problems:
        assert problem.remedy
        assert any(words in str(problem) for row in ROWS for words in row), f"docs/models.md has no row for {problem}"


def test_everything_wrong_with_a_file_is_told_at_once(folder: Path) -> None:
    both(papers(input_name="image"), papers(output_map="y"))(folder)
    with pytest.raises(ConfigurationError) as refused:
        examine(load_model(folder))
    assert len(refused.value.problems) == 2


def test_the_commands_refuse_it_with_78(folder: Path, within: Program, tmp_path: Path) -> None:
    not_probabilities(folder)
    checked = within("check", "--model", folder)
    assert checked.returncode == 78
    assert "no probabilities" in checked.stdout
    recipe = {"name": "part", "model": {"name": "m"}, "rules": [{"rule": "blob_count", "max": 0}]}
    (tmp_path / "part.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), gray(SIZE, SIZE))
    words = ("--model", folder, "--recipe", tmp_path / "part.yaml", "--images", tmp_path / "images", "--out", tmp_path / "out")
    replayed = within("replay", *words)
    assert replayed.returncode == 78
    assert "no probabilities" in replayed.stderr


def convolution(folder: Path, before: list, first: str) -> None:
    """A network of one convolution, after the nodes given."""
    weights = [constant("w", np.full((1, 1, 1, 1), 0.1, np.float32)), constant("by", 1 / 255), constant("c", 255.0)]
    nodes = [*before, helper.make_node("Conv", [first, "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["out"])]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])]
    save(folder, nodes, inputs, [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "a", "b", "c"])], weights)


RESCALING = [helper.make_node("Identity", ["frames"], ["same"]), helper.make_node("Mul", ["same", "by"], ["x"])]
DIVIDING = [helper.make_node("Div", ["frames", "c"], ["x"])]


@pytest.mark.parametrize(
    ("before", "scale", "doubt"),
    [
        ([], 1.0, "first convolution values up to 255 as they are"),
        ([], 1 / 255, ""),
        (RESCALING, 1.0, ""),
        (RESCALING, 1 / 255, "begins by multiplying with 0.00392157"),
        (DIVIDING, 1 / 255, "begins by multiplying with 0.00392157"),
    ],
)
def test_a_scale_that_the_graph_speaks_against_is_a_doubt(folder: Path, before: list, scale: float, doubt: str) -> None:
    convolution(folder, before, "x" if before else "frames")
    write_papers(folder, SIZE, SIZE, input={**INPUT, "scale": scale}, output=OUTPUT)
    doubts = examine(load_model(folder))
    assert len(doubts) == bool(doubt), doubts
    assert doubt in "".join(doubts)


def test_probabilities_told_as_logits_are_a_doubt(folder: Path, within: Program) -> None:
    write_float_model(folder, "NCHW", "probability", "sigmoid", 1, told="logits")
    assert "they look like probabilities already" in "".join(examine(load_model(folder)))
    checked = within("check", "--model", folder)
    assert checked.returncode == 0
    assert checked.stdout.startswith("note")
    assert "they look like probabilities already" in checked.stdout


def test_a_network_that_does_not_see_the_picture_is_a_doubt(folder: Path) -> None:
    nodes = [helper.make_node("Mul", ["frames", "zero"], ["z"]), helper.make_node("Sigmoid", ["z"], ["out"])]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "a", "b", "c"])]
    save(folder, nodes, inputs, outputs, [constant("zero", 0.0)])
    write_papers(folder, SIZE, SIZE, input=INPUT, output=OUTPUT)
    assert "have the same peak, 50 %" in "".join(examine(load_model(folder)))


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_every_operator_set_from_13_runs(folder: Path, opset: int, head: str) -> None:
    write_float_model(folder, "NHWC", "logits", head, 3, opset=opset)
    assert examine(load_model(folder)) == []


def test_a_model_that_may_not_be_read_is_told_with_its_remedy(folder: Path) -> None:
    folder.chmod(0)
    try:
        with an_ordinary_user(), pytest.raises(ConfigurationError) as raised:
            load_model(folder)
    finally:
        folder.chmod(0o755)
    (problem,) = raised.value.problems
    assert "cannot be read: Permission denied" in problem.message and "chmod a+r" in problem.remedy
