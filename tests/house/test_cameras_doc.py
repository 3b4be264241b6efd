"""docs/cameras.md stays true: its settings load, its commands exist, and no reason of a FAULT is left out."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

from edge_agent.cli import COMMANDS
from edge_agent.errors import Reason
from edge_agent.settings import load_station

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cameras.md").read_text()
SHELL = [line.split("#")[0].rstrip(" &") for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]


def test_its_settings_load(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    assert examples
    for example in examples:
        file = tmp_path / "station.yaml"
        file.write_text(example)
        assert load_station(file).settings.cameras


@pytest.mark.parametrize("line", SHELL)
def test_its_commands_take_these_words(line: str) -> None:
    program, command, *words = line.split()
    assert program == "edge-agent"
    module = importlib.import_module(f"edge_agent.commands.{command.replace('-', '_')}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    args = parser.parse_intermixed_args(words)
    if getattr(args, "config", None):
        assert load_station(ROOT / args.config, args.overrides)


def test_it_names_no_command_that_is_not_there() -> None:
    assert set(re.findall(r"`edge-agent ([a-z-]+)", TEXT)) <= COMMANDS.keys()


def test_every_reason_has_its_row() -> None:
    section = TEXT.split("## What a FAULT says of the camera")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.M)) == sorted(reason.value for reason in Reason)


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).is_file(), link
    assert "(docs/cameras.md)" in (ROOT / "README.md").read_text()
