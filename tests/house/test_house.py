"""The house in order: shipped files load, every key, reason and event is in the docs, and no file grows beyond reading."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent import camera_settings, recipe, settings
from edge_agent.errors import REASON_CODES, REASON_MEANINGS, ConfigurationError, Reason
from edge_agent.events import EVENTS, as_markdown
from edge_agent.fit import require_fit
from edge_agent.inference.model import load_model
from edge_agent.judgement.rules import names_of
from edge_agent.recipe import load_recipe
from edge_agent.settings import load_station

ROOT = Path(__file__).parents[2]
DOCS = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("settings", "recipe", "wire", "events")}
FOLDERS = ("edge_agent", "tools", "tests", "docs", "config", "systemd", "models")
TEXT = {".py", ".md", ".yaml", ".yml", ".cfg", ".toml", ".service", ".conf", ".rules", ""}
MOST_LINES = 400


def files(*endings: str) -> list[Path]:
    found = [file for file in ROOT.iterdir() if file.is_file()]
    for folder in FOLDERS:
        found += [file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(file for file in found if file.suffix in endings and not file.name.startswith(".git"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def structs(kind: Any, seen: set[Any]) -> Iterator[type[msgspec.Struct]]:
    """Yield a struct and every struct inside it, once."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind in seen:
            return
        seen.add(kind)
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from structs(field.type, seen)
    for inner in getattr(kind, "__args__", ()):
        yield from structs(inner, seen)


def shown(value: Any) -> str | None:
    """How a default stands in the docs' tables; None where it is told in words."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else value if isinstance(value, str) else None


SETTING_SECTIONS = {
    settings.StationSettings: "## The station",
    settings.ServerCurve: "Of `plc.curve`",
    settings.ClientCurve: "Of `uplink.curve`",
    camera_settings.SyntheticCamera: "`kind: synthetic`",
    camera_settings.FolderCamera: "`kind: folder`",
    camera_settings.AravisCamera: "`kind: aravis`",
    camera_settings.V4l2Camera: "`kind: v4l2`",
    camera_settings.VideoCamera: "`kind: video`",
    settings.LineSettings: "## Lines",
    settings.ViewSettings: "Each of `views`",
    settings.ChallengeSettings: "`challenge` names master parts",
    settings.MasterPart: "Each of `parts`",
    settings.CpuEngine: "`kind: cpu`",
    settings.TensorRtEngine: "`kind: tensorrt`",
    settings.AutoEngine: "`kind: auto`",
    settings.RecordedEngine: "`kind: recorded`",
    settings.LogSettings: "## Log",
    settings.ThreadWishes: "## Threads",
    settings.ThreadWish: "Each of `threads`",
    settings.PlcSettings: "## Plc",
    settings.UplinkSettings: "## Uplink",
    settings.MetricsSettings: "## Metrics",
}
RECIPE_SECTIONS = {
    recipe.Recipe: "## Recipe",
    recipe.ModelReference: "## Model",
    recipe.Region: "## Regions",
    recipe.ClassLimits: "## Classes",
    recipe.Exclusion: "## Exclusions",
    recipe.Presence: "## Presence",
    recipe.Quality: "## Quality",
    recipe.EvidencePlan: "## Evidence",
    recipe.Golden: "## Golden",
}


def rows_after(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table after a heading, by the key in their first cell."""
    lines = text.split(heading, 1)[1].splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("|"))
    rows = {}
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        if line.startswith("|---"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        rows[cells[0].strip("`| ")] = cells
    return rows


def check_table(kind: type[msgspec.Struct], text: str, heading: str) -> None:
    rows = rows_after(text, heading)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    keys = set(rows) - {"key", kind.__struct_config__.tag_field}
    assert keys == set(fields), f"{heading}: the table and {kind.__name__} differ"
    for key, field in fields.items():
        default = rows[key][2]
        if field.required:
            assert default == "required", f"{heading}: {key} is required"
        elif shown(field.default) is not None:
            assert default == f"`{shown(field.default)}`", f"{heading}: {key} has the default {field.default}, not {default}"
        else:
            assert default not in ("required", "")


@pytest.mark.parametrize("kind", list(structs(settings.StationSettings, set())), ids=lambda kind: kind.__name__)
def test_every_setting_is_in_the_docs_with_its_default(kind: type[msgspec.Struct]) -> None:
    check_table(kind, DOCS["settings"], SETTING_SECTIONS[kind])


@pytest.mark.parametrize("kind", list(structs(recipe.Recipe, set())), ids=lambda kind: kind.__name__)
def test_every_recipe_key_is_in_the_docs_with_its_default(kind: type[msgspec.Struct]) -> None:
    config = kind.__struct_config__
    if config.tag is None:
        check_table(kind, DOCS["recipe"], RECIPE_SECTIONS[kind])
        return
    row = rows_after(DOCS["recipe"], "## Rules")[str(config.tag)]
    for field in msgspec.structs.fields(kind):
        assert f"`{field.encode_name}`" in row[1], f"rule {config.tag} has a key {field.encode_name}"
    assert set(re.findall(r"`([a-z]\w*)`", row[1])) == {field.encode_name for field in msgspec.structs.fields(kind)}


def test_every_reason_has_its_code_and_meaning_in_the_docs() -> None:
    for reason in Reason:
        assert f"| {REASON_CODES[reason.value]} | `{reason.value}` | {REASON_MEANINGS[reason]} |" in DOCS["wire"]


def test_the_docs_list_exactly_the_events_of_the_table() -> None:
    """`edge-agent events --markdown` prints it."""
    assert [line for line in DOCS["events"].splitlines() if line.startswith("|")] == as_markdown().splitlines()


def test_what_is_said_is_an_event_of_the_table() -> None:
    said = set()
    for file in files(".py"):
        for node in ast.walk(ast.parse(file.read_text())) if "edge_agent" in file.parts else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                said |= {c.value for c in ast.walk(node.args[0]) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    assert len(said) > 20
    assert said <= set(EVENTS)


@pytest.mark.parametrize("event", EVENTS.items(), ids=lambda event: event[0])
def test_an_event_has_a_form_and_a_bad_one_a_remedy(event: tuple[str, Any]) -> None:
    name, about = event
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
    assert about.level in ("debug", "info", "warning", "error")
    assert about.meaning


def test_every_shipped_station_loads() -> None:
    stations = sorted((ROOT / "config").glob("*.yaml"))
    assert stations, "config/ ships no station"
    for file in stations:
        station = load_station(file)
        for line in station.settings.lines:
            shipped = station.path(station.settings.recipes) / f"{line.recipe}.yaml"
            assert shipped.is_file(), f"{name_of(file)}: line {line.name} wants {shipped}"


def test_every_shipped_recipe_loads_under_its_own_name() -> None:
    recipes = sorted((ROOT / "config" / "recipes").glob("*.yaml"))
    assert recipes, "config/recipes/ ships no recipe"
    for file in recipes:
        loaded = load_recipe(file)
        assert loaded.name == file.stem
        assert (ROOT / "models" / loaded.model.name / "model.yaml").is_file()


def test_what_rules_are_called_is_told_of_the_example(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS["recipe"], re.S)
    (tmp_path / "cap.yaml").write_text(example)
    (told,) = re.findall(r"Those of the recipe above are (.*)\.\n", DOCS["recipe"])
    assert re.findall("`(.*?)`", told) == names_of(load_recipe(tmp_path / "cap.yaml"))


def test_the_refusals_shown_on_the_wire_are_those_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    broken = "name: cap\nmodel: {name: cap}\nrules:" + "\n" * 18 + "- {rule: blob_count, max: -1}\n"
    Path("recipes/cap.yaml").write_text(broken)
    for name in ("cap", "cap-blue"):
        with pytest.raises(ConfigurationError) as refused:
            load_recipe(Path("recipes") / f"{name}.yaml")
        assert f'{refused.value}"}}' in DOCS["wire"]


@pytest.mark.parametrize("name", ["settings", "recipe"])
def test_the_examples_of_the_docs_load(name: str, tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS[name], re.S)
    assert examples
    for example in examples:
        file = tmp_path / "example.yaml"
        file.write_text(example)
        (load_station if name == "settings" else load_recipe)(file)  # type: ignore[operator]


def test_the_readme_walks_a_new_user_through_files_that_load(tmp_path: Path) -> None:
    papers, rules, settings = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    onnx = tmp_path / "cap" / "model.onnx"
    onnx.parent.mkdir()
    onnx.write_bytes(b"a network")
    (onnx.parent / "model.yaml").write_text(re.sub(r"<.*?>", hashlib.sha256(onnx.read_bytes()).hexdigest(), papers))
    for name, text in (("cap", rules), ("station", settings)):
        (tmp_path / f"{name}.yaml").write_text(text)
    model, recipe = load_model(onnx.parent), load_recipe(tmp_path / "cap.yaml")
    require_fit(recipe, model, "cap.yaml")
    assert load_station(tmp_path / "station.yaml").settings.lines[0].recipe == recipe.name


def test_no_module_is_longer_than_one_can_read() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in files(".py")}
    assert len(lengths) > 50
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_two_files_of_tests_are_called_alike() -> None:
    """Of two in different folders pytest reads one, and where they are run apart nobody sees it."""
    names = Counter(file.name for file in files(".py") if file.name.startswith("test_"))
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    folders = ("wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers")
    pattern = re.compile(rf"(?<![\w.$~/])/(?:{'|'.join(folders)})/\w")
    looked_at = files(*TEXT)
    assert len(looked_at) > 60
    found = []
    for file in looked_at:
        text = file.read_text(encoding="utf-8", errors="ignore")
        found += [f"{name_of(file)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
