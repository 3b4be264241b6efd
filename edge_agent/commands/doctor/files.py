"""Files that the settings and recipes name beside models: are they there, and may the installed service read them, too? Whoever
looks is often root, and sees what the service does not."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_agent.camera.folder import list_images
from edge_agent.camera_settings import FolderCamera, VideoCamera, is_stream
from edge_agent.commands.doctor.keys import keys_of
from edge_agent.commands.doctor.service import Service
from edge_agent.errors import CameraError, ConfigurationError, Problem, remedy_of
from edge_agent.inference.model import load_model
from edge_agent.judgement.rules import names_in_line
from edge_agent.pictures import read_gray
from edge_agent.plc.challenge import never_broken
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.security import PUBLIC, SECRET
from edge_agent.settings import LineSettings, RecordedEngine, Station
from edge_agent.strictyaml import Document, Keys

Named = tuple[Keys, Path]  # a key of the settings, and a file or folder that belongs to it
_STATE = "/var/lib/edge-agent/state"
_WRITABLE = (
    f"say {_STATE}; or sudo install -d -o {{account}} -m 750 {{folder}}, and ReadWritePaths={{folder}} below "
    "[Service] in systemctl edit edge-agent."
)
_ELSEWHERE = "put it under /var/lib/edge-agent or /etc/edge-agent, readable by all: chmod -R a+rX."


def check_pictures(station: Station, document: Document) -> list[Problem]:
    """Problems of pictures of master parts and golden pictures, which are read only when their time comes."""
    found = []
    for keys, file in (*_masters(station), *_golden(station)):
        if (told := _unreadable(file)) is not None:
            found.append(document.problem(keys, *told))
    return found


def check_reasons(station: Station, document: Document) -> list[Problem]:
    """Problems of master parts that have to break what no rule of their line is called: they never come out right."""
    found = []
    for i, line in enumerate(station.settings.lines):
        names = _rules_of(station, line)
        for j, name in never_broken(line.challenge, names) if line.challenge is not None and names else ():
            message = f"has {name!r}, which no rule of the line is called: the challenge would never be passed."
            keys: Keys = ("lines", i, "challenge", "parts", j, "reasons")
            found.append(document.problem(keys, message, f"name some of {', '.join(names)}."))
    return found


def _rules_of(station: Station, line: LineSettings) -> list[str]:
    """What the rules of a line are called in its verdicts; none where a recipe cannot be read."""
    folder = station.path(station.settings.recipes)
    try:
        recipes = [load_recipe(folder / f"{view.recipe}.yaml") for view in line.each_view]
    except ConfigurationError:
        return []
    return names_in_line(zip(line.names_in_verdicts, recipes, strict=True))


def check_golden(recipe: Recipe, file: Path) -> list[Problem]:
    """Problems of the golden pictures of one recipe, of this file."""
    told = map(_unreadable, _golden_of(recipe, file))
    return [Problem(str(file), 0, "golden", *each) for each in told if each is not None]


def _golden_of(recipe: Recipe, file: Path) -> list[Path]:
    golden = recipe.golden
    return [file.parent / name for name in (*golden.good, *golden.bad)] if golden is not None else []


def _unreadable(file: Path) -> tuple[str, str] | None:
    """What is wrong with a picture, and the remedy."""
    try:
        open(file, "rb").close()
    except OSError as error:
        return f"names {file}, which cannot be read: {error.strerror}.", remedy_of(error)
    try:
        read_gray(file)
    except CameraError as error:
        return f"{error}.", "give a picture that can be read."
    return None


def check_service(station: Station, document: Document, service: Service) -> tuple[list[Problem], list[Problem]]:
    """Problems of what the service may not read or write though this user may, and warnings of cameras that come to an end."""
    named: dict[Path, Keys] = {}
    for keys, path in _named(station):
        named.setdefault(path, keys)
    problems = []
    for path, keys in named.items():
        with suppress(OSError):  # this user may not look either, and was told so
            told = _kept_from(service, path) or (_closed_images(service, path) if keys[:1] == ("cameras",) else None)
            if told is not None:
                problems.append(document.problem(keys, *told))
    return problems + list(_unwritable(station, document, service)), list(_that_end(station, document))


def _unwritable(station: Station, document: Document, service: Service) -> Iterator[Problem]:
    """The state folder, where the service could not write into it."""
    state = station.path(station.settings.state)
    with suppress(OSError):
        hidden = service.hides(state)
        if why := hidden or service.bars_from(state):
            remedy = f"say {_STATE}." if hidden else _WRITABLE.format(folder=state, account=service.account)
            yield document.problem(
                ("state",), f"names {state}, where the service, as {service.account}, keeps nothing: {why}.", remedy
            )


def _kept_from(service: Service, path: Path) -> tuple[str, str] | None:
    """Why the service cannot read a file, or a folder and its images; with the remedy. Raises OSError."""
    if line := service.hides(path.resolve()) or service.hides(path.absolute()):
        return f"names {path}, of which the service sees nothing ({line}).", _ELSEWHERE
    if service.is_bound(path.absolute()) or not path.exists():
        return None
    if place := service.closed_at(path):
        return f"names {path}, which the service's account {service.account} may not read: {_modes(place)}.", _open(place, service)
    return None


def _closed_images(service: Service, folder: Path) -> tuple[str, str] | None:
    """The same of images in a folder that is open itself. Raises OSError."""
    if service.is_bound(folder.absolute()) or not folder.is_dir():
        return None
    images = list_images(folder)
    closed = [file for file in images if service.closes(file)]
    if not closed:
        return None
    message = f"names {folder}, of whose {len(images)} images the service's account {service.account} may not read {len(closed)}"
    return f"{message}: {_modes(closed[0])}.", f"sudo chmod -R a+rX {folder}; or {_ELSEWHERE}"


def _modes(place: Path) -> str:
    status = place.stat()
    return f"{place} has the mode {status.st_mode & 0o7777:04o} and belongs to {_name_of(status.st_uid)}"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _open(place: Path, service: Service) -> str:
    if place.suffix == SECRET:
        return f"sudo chgrp {service.account} {place} && sudo chmod 640 {place}"
    return f"sudo chmod {'a+rx' if place.is_dir() else 'a+r'} {place}; or {_ELSEWHERE}"


def _that_end(station: Station, document: Document) -> Iterator[Problem]:
    again = "and the service with it, which systemd starts again until its start limit."
    for i, camera in enumerate(station.settings.cameras):
        if isinstance(camera, FolderCamera) and not camera.repeat:
            yield document.problem(("cameras", i), f"comes to an end with its last image, {again}", "set repeat: true.")
        if isinstance(camera, VideoCamera) and not is_stream(camera.url):
            remedy = "a service wants a stream, or a folder of images with repeat: true."
            yield document.problem(("cameras", i), f"comes to an end with its last frame, {again}", remedy)


def _named(station: Station) -> Iterator[Named]:
    """All that the service reads at its start and later. Of what this user cannot read the rest is not known."""
    yield (), Path(station.file)
    for i, camera in enumerate(station.settings.cameras):
        if isinstance(camera, FolderCamera):
            yield ("cameras", i, "path"), station.base / camera.path
        if isinstance(camera, VideoCamera) and not is_stream(camera.url):
            yield ("cameras", i, "url"), station.base / camera.url.removeprefix("file://")
    engine = station.settings.engine
    for key in ("path", "order") if isinstance(engine, RecordedEngine) else ():
        if text := getattr(engine, key):
            yield ("engine", key), station.base / text
    for keys, place in keys_of(station):
        yield keys, place
        with suppress(OSError):  # of a folder each key in it
            yield from ((keys, file) for file in sorted(place.iterdir()) if file.suffix == PUBLIC)
    yield from recipes_of(station)
    yield from _models(station)
    yield from _golden(station)
    yield from _masters(station)


def recipes_of(station: Station) -> Iterator[Named]:
    """The recipe of each view of each line."""
    for i, line in enumerate(station.settings.lines):
        for j, view in enumerate(line.each_view):
            keys = ("lines", i, "views", j, "recipe") if line.views else ("lines", i, "recipe")
            yield keys, station.base / station.settings.recipes / f"{view.recipe}.yaml"


def _models(station: Station) -> Iterator[Named]:
    for keys, file in recipes_of(station):
        with suppress(ConfigurationError):
            folder = station.base / station.settings.models / load_recipe(file).model.name
            yield keys, folder / "model.yaml"
            yield keys, load_model(folder).onnx


def _golden(station: Station) -> Iterator[Named]:
    for keys, file in recipes_of(station):
        with suppress(ConfigurationError):
            for picture in _golden_of(load_recipe(file), file):
                yield keys, picture


def _masters(station: Station) -> Iterator[Named]:
    for i, line in enumerate(station.settings.lines):
        for j, master in enumerate(line.challenge.parts if line.challenge is not None else ()):
            if master.image:
                yield ("lines", i, "challenge", "parts", j, "image"), station.base / master.image
