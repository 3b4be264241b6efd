"""The trial of all candidates on this station: judged, timed, held against the limits, reported; the best one activated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.status import Status
from rich.table import Table

from edge_agent.activation import Choice, ForeignChoice, processor, read_choice, rules_hash, withdraw_choice, write_choice
from edge_agent.commands.calibrating.gate import Judged, Speed, judge, measure_speeds
from edge_agent.commands.calibrating.images import Golden, fingerprint, require_some, spread, tensors
from edge_agent.commands.calibrating.manifest import Manifest, subset, this_machine
from edge_agent.commands.calibrating.report import Report, write_report
from edge_agent.commands.output import listed
from edge_agent.errors import ConfigurationError, EngineError, EngineLost
from edge_agent.events import say
from edge_agent.inference import ENGINES, open_segmenter
from edge_agent.inference.base import Segmenter
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt.build import Progress as Building
from edge_agent.qualification.gate import Comparison, Limits, compare, fastest, limits_as_dict, refusals
from edge_agent.recipe import Recipe
from edge_agent.records import FAULT
from edge_agent.settings import AutoEngine, CpuEngine, EngineSettings, Station, TensorRtEngine

REFERENCE = "fp32"
REPORT = "report.html"
_TIMED_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, where, and on what."""

    out: Path
    model: Model
    recipe: Recipe
    station: Station | None
    golden: Sequence[Golden]
    limits: Limits
    seconds: float
    engine: EngineSettings

    def open(self, settings: EngineSettings, model: Model, progress: Building) -> Segmenter:
        """The very engine that the station would open: what is built for it here is kept in the station's state."""
        base, state = (self.out, self.out) if self.station is None else (self.station.base, self._state_of(self.station))
        return open_segmenter(settings, model, base, state, progress)

    @property
    def engines(self) -> Path | None:
        """Where built engines are kept; None without a station, where none are built."""
        return self._state_of(self.station) / ENGINES if self.station is not None else None

    def _state_of(self, station: Station) -> Path:
        return station.path(station.settings.state)


def hold_trial(trial: Trial, manifest: Manifest, names: Sequence[str], console: Console) -> tuple[Manifest, str | None]:
    """Return the manifest with its gate, and the candidate that is chosen; write report.html."""
    models = {REFERENCE: trial.model}
    for name, each in subset(manifest, set(names)).items():
        models[name] = trial.model.calibrated(trial.out / each.file, each.sha256)
    with console.status("engines") as status:
        trial = replace(trial, engine=_settled(trial, _showing(console, status, REFERENCE)))
        speeds, engine_ids, unusable = _speeds(trial, models, console, status)
    usable = [name for name in models if name not in unusable]
    judged: dict[str, Judged] = {}
    with Progress(console=console) as progress:
        for name in usable:
            task = progress.add_task(f"judge by {name}", total=len(trial.golden))
            advance = partial(progress.advance, task)
            judged[name] = judge(models[name], trial.recipe, trial.engine, trial.golden, advance, trial.engines)
            _require_judged_by(name, engine_ids[name], judged[name])
    reference = judged[REFERENCE]
    if unjudged := [
        f"{case.name} ({', '.join(verdict.reasons)})"
        for case, verdict in zip(reference.cases, reference.verdicts, strict=True)
        if case.outcome == FAULT
    ]:
        told_of = f"{len(unjudged)} of {len(trial.golden)} golden images"
        console.print(f"{told_of} cannot be judged by the recipe and count for nothing: {listed(unjudged)}")
    found = {name: compare(judged[REFERENCE].cases, judged[name].cases) for name in usable if name != REFERENCE}
    against = {name: refusals(each, speeds[name].ratio, trial.limits) for name, each in found.items()}
    against |= {name: [f"the engine does not take it: {why}"] for name, why in unusable.items()}
    chosen = fastest({name: speeds[name].ratio for name, reasons in against.items() if not reasons})
    gate = _gate(trial, engine_ids, speeds, found, against, chosen)
    manifest = msgspec.structs.replace(manifest, gate=gate)
    shown = Report(manifest, trial.recipe, trial.golden, judged, found, speeds, against, chosen)
    write_report(trial.out / REPORT, shown)
    console.print(_table(speeds, found, against, chosen))
    told = f"{chosen} is the fastest that passes" if chosen else "no candidate is better than FP32, which stays"
    console.print(f"{told}. The whole story: {trial.out / REPORT}", highlight=False)
    return manifest, chosen


def _settled(trial: Trial, progress: Building) -> EngineSettings:
    """The engine for all: FP32 decides what `auto` is, so that none on a GPU is held against one on the CPU."""
    if not isinstance(trial.engine, AutoEngine):
        return trial.engine
    try:
        trial.open(settings := TensorRtEngine(), trial.model, progress).close()
    except (EngineError, ConfigurationError) as error:
        say("engine.fallback", model=trial.model.papers.name, why=str(error))
        return CpuEngine()
    return settings


def _showing(console: Console, status: Status, name: str) -> Building:
    """Tell the person that an engine is being built, and how far it is."""
    is_told = False

    def tell(text: str) -> None:
        nonlocal is_told
        if text and not is_told:
            is_told = True
            console.print(f"{name}: its engine is being built, which takes seconds to many minutes", highlight=False)
        if text:
            status.update(f"{name}: building, {text}")

    return tell


def _require_judged_by(name: str, engine_id: str, judged: Judged) -> None:
    """Raise EngineError where the line judged by another engine than the one that was timed."""
    others = sorted({verdict.engine_id for verdict in judged.verdicts} - {engine_id})
    if others:
        raise EngineError(
            f"{name} was timed on the engine {engine_id} and judged by {others[0]}: they must be one. See in the log why it was "
            "not kept or not opened again, and run this again."
        )


def _speeds(
    trial: Trial, models: dict[str, Model], console: Console, status: Status
) -> tuple[dict[str, Speed], dict[str, str], dict[str, str]]:
    """The speed and the id of every engine that opens, and why others do not open. Raises where FP32 itself does not."""
    rows, cols = trial.model.papers.input.rows, trial.model.papers.input.cols
    looked = list(tensors(spread(trial.golden, 4 * _TIMED_FRAMES), trial.recipe, rows, cols))
    require_some(looked, "golden images tried")
    few = [frame for seen in looked for frame in seen.frames]
    engines: dict[str, Segmenter] = {}
    unusable: dict[str, str] = {}
    with ExitStack() as stack:
        for name, model in models.items():
            try:
                status.update(f"{name}: opening")
                engine = trial.open(trial.engine, model, _showing(console, status, name))
                stack.callback(engine.close)
                engine.warm_up()
                engines[name] = engine
            except (ConfigurationError, EngineError) as error:
                if name == REFERENCE or isinstance(error, EngineLost):
                    raise
                unusable[name] = str(error)
        status.stop()  # what turns on a screen takes its share of a processor
        console.print(f"timing {', '.join(engines)} in turns, {trial.seconds:g} s each", highlight=False)
        return (
            measure_speeds(engines, REFERENCE, few[:_TIMED_FRAMES], trial.seconds),
            {name: each.engine_id for name, each in engines.items()},
            unusable,
        )


def _gate(
    trial: Trial,
    engine_ids: dict[str, str],
    speeds: dict[str, Speed],
    found: dict[str, Comparison],
    against: dict[str, list[str]],
    chosen: str | None,
) -> dict[str, Any]:
    images = trial.golden
    return {
        "engine": engine_ids[REFERENCE],
        "engines": engine_ids,  # of TensorRT each graph's is another
        "limits": limits_as_dict(trial.limits),
        "golden": {
            "images": len(images),
            "sha256": fingerprint(images),
            "defective": sum(each.is_defective is True for each in images),
            "good": sum(each.is_defective is False for each in images),
        },
        "speeds": {name: _rounded(each) for name, each in speeds.items()},
        "comparisons": {name: each.as_dict() for name, each in found.items()},
        "refusals": against,
        "chosen": chosen,
        "gated_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "gated_on": this_machine(),
    }


def _rounded(speed: Speed) -> dict[str, float]:
    return {name: round(getattr(speed, name), 4) for name in speed.__dataclass_fields__}


def _table(speeds: dict[str, Speed], found: dict[str, Comparison], against: dict[str, list[str]], chosen: str | None) -> Table:
    table = Table(title="candidates against FP32")
    for heading in ("", "images/s", "times FP32", "flips", "NG to PASS", "PASS to NG", "verdict"):
        table.add_column(heading)
    table.add_row(REFERENCE, f"{speeds[REFERENCE].images_per_s:.1f}", "1", "", "", "", "")
    for name, reasons in against.items():
        told = "; ".join(reasons) or ("passes, chosen" if name == chosen else "passes")
        if name not in found:
            table.add_row(name, "", "", "", "", "", told)
            continue
        each, speed = found[name], speeds[name]
        flips = f"{each.flips.count} of {each.flips.of}"
        cells = [f"{speed.images_per_s:.1f}", f"{speed.ratio:.2f}", flips, str(each.to_pass.count), str(each.to_ng.count)]
        table.add_row(name, *cells, told)
    return table


def _untried(state: Path, trial: Trial, gate: dict[str, Any]) -> str:
    """The station's choice, where this gate says nothing of it: another candidate was tried, or too few images. Else ''."""
    try:
        found = read_choice(state, trial.recipe, trial.model)
    except ForeignChoice:
        return ""
    compared = gate["comparisons"].get(found[0].candidate) if found else None
    is_told = compared is not None and compared["judged"] >= trial.limits.images
    return found[0].candidate if found and not is_told else ""


def activate(trial: Trial, manifest: Manifest, chosen: str | None, station: Station) -> str:
    """Make the chosen candidate the station's engine, or FP32 where none is chosen; return what was done, in words."""
    state = station.path(station.settings.state)
    gate = manifest.gate or {}
    if chosen is None:
        if earlier := _untried(state, trial, gate):
            return f"Nothing was found out about {earlier}, the station's choice: it stays."
        was_there = withdraw_choice(state, trial.recipe)
        return (
            "The earlier choice is withdrawn: FP32 judges from the next start or change of recipe on."
            if was_there
            else "FP32 goes on judging."
        )
    made = manifest.candidates[chosen]
    choice = Choice(
        candidate=chosen,
        onnx=made.sha256,
        model=trial.model.hash,
        rules=rules_hash(trial.recipe),
        engine=gate["engines"][chosen],
        processor=processor(),
        speedup=gate["speeds"][chosen]["ratio"],
        images=gate["comparisons"][chosen]["judged"],
        flips=gate["comparisons"][chosen]["flips"]["count"],
        made_at=gate["gated_at"],
    )
    file = write_choice(state, trial.recipe, choice, (trial.out / made.file).read_bytes())
    return (
        f"{chosen} is active: {file}. The daemon takes it at its next start, or with: edge-agent control recipe {trial.recipe.name}"
    )
