"""Somebody's own model and data: what is wrong with them is told by the commands that judge, at once and with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from bright import gray, write_bright_model
from onnx import TensorProto, helper, save
from stations import RECIPE, ROOT, Program

from edge_agent.commands.replay import find_model, replay_station
from edge_agent.dataset import read_dataset
from edge_agent.errors import ConfigurationError
from edge_agent.inference.describe import first_papers
from edge_agent.inference.model import load_model


class Own:
    """A model, a recipe and two labelled parts, the first with a defect."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.out, self.recipe = folder, folder / "parts", folder / "out", folder / "part.yaml"
        self.model = write_bright_model(folder / "models" / "bright")
        self.recipe.write_text(yaml.safe_dump(RECIPE))
        for name in ("images", "masks"):
            (self.data / name).mkdir(parents=True)
        for number, level in enumerate((250, 100)):
            frame, mask = gray(), np.zeros((64, 64), np.uint8)
            frame[20:28, 10:18], mask[20:28, 10:18] = level, 255 * (level > 200)
            cv2.imwrite(str(self.data / "images" / f"{number}.png"), frame)
            cv2.imwrite(str(self.data / "masks" / f"{number}.png"), mask)
        (self.data / "index.csv").write_text("image,mask,class\n0.png,0.png,spot\n1.png,,good\n")

    def words(self, command: str) -> tuple[object, ...]:
        data = ("--data", self.data) if command == "evaluate" else ("--images", self.data / "images")
        return (command, "--model", self.model, "--recipe", self.recipe, *data, "--out", self.out)


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


@pytest.mark.parametrize("command", ["replay", "evaluate"])
def test_a_recipe_of_another_model_is_refused_as_check_does(own: Own, edge_agent: Program, command: str) -> None:
    own.recipe.write_text(yaml.safe_dump({**RECIPE, "model": {"name": "wrongname"}}))
    done = edge_agent(*own.words(command))
    assert done.returncode == 78, done.stderr
    assert "model.name: is wrongname, and the model given is bright. Remedy: give the model it names" in done.stderr
    assert not own.out.exists()


def test_masks_of_0_and_1_do_not_vanish_in_silence(own: Own, edge_agent: Program) -> None:
    mask = own.data / "masks" / "0.png"
    cv2.imwrite(str(mask), cv2.imread(str(mask), cv2.IMREAD_UNCHANGED) // 255)
    done = edge_agent(*own.words("evaluate"))
    assert done.returncode == 0, done.stderr
    (said,) = json.loads((own.out / "evaluation.json").read_text())["warnings"]
    assert "the masks of 1 defective images are empty" in said
    assert "0.png. The highest value in them is 1: multiply them by 255." in said
    assert '"event"' not in done.stderr, "nobody asked for the line's own words, nor for a server of metrics"


def test_good_parts_by_another_word_are_told_of(own: Own, edge_agent: Program) -> None:
    (own.data / "index.csv").write_text("image,mask,class\n0.png,0.png,spot\n1.png,,i.O.\n")
    done = edge_agent(*own.words("evaluate"))
    assert done.returncode == 0, done.stderr
    assert "no image is good by its label (i.O., spot): nothing tells of false rejects" in done.stderr + done.stdout


def test_training_data_is_told_in_every_picture(own: Own, edge_agent: Program) -> None:
    papers = yaml.safe_load((own.model / "model.yaml").read_text())
    training = {"data": "folder:parts", "held_out": [], "trained_on": ["0.png", "1.png"]}
    (own.model / "model.yaml").write_text(yaml.safe_dump({**papers, "training": training}))
    done = edge_agent(*own.words("evaluate"))
    assert done.returncode == 0, done.stderr
    for name in ("threshold.png", "precision_recall.png", "scores.png"):
        blue, _, red = np.moveaxis(cv2.imread(str(own.out / name))[-30:].astype(int), 2, 0)
        assert ((red - blue) > 100).sum() > 300, f"no word in red below {name}"


def test_files_that_are_no_pictures_are_all_told_before_the_work(own: Own, edge_agent: Program) -> None:
    for number in range(2):
        (own.data / "images" / f"{number}.png").write_text("not a picture")
    done = edge_agent(*own.words("evaluate"))
    assert done.returncode == 78
    assert [f"{number}.png: is not a readable image" in done.stderr for number in range(2)] == [True, True]
    assert not own.out.exists()


def test_pictures_that_none_can_be_read_of_are_no_fault_of_the_recipe(own: Own, edge_agent: Program) -> None:
    for number in range(2):
        file = own.data / "images" / f"{number}.png"
        assert cv2.imwrite(str(file.with_suffix(".tif")), gray().astype(np.float32))
        file.unlink()
    index = own.data / "index.csv"
    index.write_text(index.read_text().replace("0.png,0", "0.tif,0").replace("1.png", "1.tif"))
    done = edge_agent(*own.words("evaluate"))
    assert done.returncode == 78
    assert "images/0.tif is not a readable image: its pixels are float32" in done.stderr
    assert "Mend the recipe" not in done.stderr
    assert "/00000000-0.tif is not a readable image" in done.stderr, "the log names the picture"


@pytest.mark.parametrize("command", ["replay", "evaluate"])
def test_pictures_in_the_lower_bits_of_16_are_told_of(own: Own, edge_agent: Program, command: str) -> None:
    for number in range(2):
        file = own.data / "images" / f"{number}.png"
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED).astype(np.uint16) * 16)
    own.recipe.write_text(yaml.safe_dump({key: value for key, value in RECIPE.items() if key != "presence"}))
    done = edge_agent(*own.words(command))
    assert done.returncode == 0, done.stderr
    assert "WARNING: the pictures have 16 bits a pixel" in done.stderr
    if command == "evaluate":
        (said,) = json.loads((own.out / "evaluation.json").read_text())["warnings"]
        assert said.endswith("(the highest value looked at is 4000): they are nearly black. Multiply them by 16.")


def test_half_a_picture_is_named(own: Own, edge_agent: Program) -> None:
    whole = (own.data / "images" / "1.png").read_bytes()
    (own.data / "images" / "2.png").write_bytes(whole[:60])
    (own.data / "index.csv").write_text("image,mask,class\n0.png,0.png,spot\n1.png,,good\n2.png,,good\n")
    done = edge_agent(*own.words("evaluate"))
    assert done.returncode == 0, done.stderr
    assert "NOT JUDGED: 1 of the images came out as FAULT (bad_frame 1), 0 of them defective: 2.png." in " ".join(
        done.stdout.split()
    )


def test_a_shipped_model_is_known_by_name_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("demo-texture") == ROOT / "models" / "demo-texture"


def test_a_network_given_for_its_folder_is_refused_with_the_folder(own: Own) -> None:
    with pytest.raises(ConfigurationError, match=r"is a file, and a model is a folder.*give the one that it lies in, .*bright\."):
        load_model(find_model(str(own.model / "model.onnx")))


def test_a_network_without_papers_is_told_how_to_get_some(own: Own) -> None:
    (own.model / "model.yaml").unlink()
    with pytest.raises(
        ConfigurationError, match=r"no model.yaml.*edge-agent describe-model .*bright/model.onnx > .*bright/model.yaml"
    ):
        load_model(find_model(str(own.model)))


def test_a_replay_serves_no_metrics(own: Own) -> None:
    assert replay_station(own.recipe, own.data / "images", own.folder).settings.metrics is None


@pytest.mark.parametrize("digits", ["abc", "0" * 64])
def test_what_a_hash_is_is_told(own: Own, digits: str) -> None:
    text = (own.model / "model.yaml").read_text()
    has = yaml.safe_load(text)["onnx"]["sha256"]
    (own.model / "model.yaml").write_text(text.replace(has, digits))
    with pytest.raises(ConfigurationError, match="give 64 hexadecimal digits in quotes, as `sha256sum` prints"):
        load_model(own.model)


def test_a_remedy_without_a_file_before_it_is_shown(own: Own, edge_agent: Program) -> None:
    (own.folder / "no.onnx").write_text("nothing")
    done = edge_agent("describe-model", own.folder / "no.onnx")
    assert done.returncode == 78
    assert "Remedy: export the network as ONNX." in done.stderr


def test_a_spreadsheets_semicolons_are_told(own: Own) -> None:
    file = own.data / "index.csv"
    file.write_text(file.read_text().replace(",", ";"))
    with pytest.raises(ConfigurationError, match=r"separated by semicolons.*save it with commas"):
        read_dataset(own.data)


def test_a_smaller_map_is_read_in_the_pictures_layout_and_said_to_be_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["frames"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("MaxPool", ["nchw"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Transpose", ["pooled"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Sigmoid", ["nhwc"], ["map"]),
    ]
    taken = helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, 64, 64, 1])
    given = helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 16, 16, 1])
    graph = helper.make_graph(nodes, "small", [taken], [given])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "model.onnx"))
    papers = first_papers(tmp_path / "model.onnx", None, None)
    told = yaml.safe_load(papers)
    assert (told["output"]["layout"], told["classes"]) == ("NHWC", ["defect"])
    assert "WILL BE REFUSED" in papers
