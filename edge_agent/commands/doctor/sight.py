"""Do pictures whose size is known beforehand fit the recipe: its regions, zones and exclusions? Where they do not, every part is a
FAULT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle import Layout
from edge_agent.camera.folder import list_images
from edge_agent.camera_settings import AravisCamera, CameraSettings, FolderCamera, SyntheticCamera, V4l2Camera
from edge_agent.errors import CameraError, ConfigurationError
from edge_agent.inference.model import Model
from edge_agent.inference.prepare import RegionError
from edge_agent.pictures import read_gray
from edge_agent.recipe import Recipe


@dataclass(frozen=True, slots=True)
class _Network:
    rows: int
    cols: int
    classes: tuple[str, ...]


def require_sight(camera: CameraSettings, base: Path, recipe: Recipe, model: Model, file: Path) -> None:
    """Raise ConfigurationError where the camera's pictures do not fit; of a folder the first one is looked at."""
    try:
        known = _first(camera, base)
    except (CameraError, ConfigurationError):
        return  # what the camera is told of
    if known is None:
        return
    rows, cols, picture = known
    size = model.papers.input
    try:
        Layout(recipe, _Network(size.rows, size.cols, model.papers.classes), rows, cols)
    except RegionError as error:
        what, _, remedy = str(error).partition(". ")
        raise ConfigurationError.of(f"{picture} of camera {camera.name}: {what}.", remedy[:1].lower() + remedy[1:], file) from None


def _first(camera: CameraSettings, base: Path) -> tuple[int, int, str] | None:
    """Rows and cols of a picture, and which it is; None where only the camera knows."""
    if isinstance(camera, SyntheticCamera):
        return camera.rows, camera.cols, "a picture"
    if isinstance(camera, (AravisCamera, V4l2Camera)) and camera.height and camera.width:
        return camera.height, camera.width, "a picture"  # one of another size is refused when the camera is opened
    if isinstance(camera, FolderCamera):
        file = list_images((base / camera.path).resolve())[0]
        rows, cols = read_gray(file).shape
        return rows, cols, file.name
    return None
