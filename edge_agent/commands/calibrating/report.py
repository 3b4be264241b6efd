"""report.html: one file with its pictures inside, that says which candidate was chosen, why not the others, and shows flips."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_agent.commands.calibrating.gate import Judged, Speed
from edge_agent.commands.calibrating.images import Golden, contents
from edge_agent.commands.calibrating.manifest import Manifest
from edge_agent.commands.calibrating.plots import margins_png
from edge_agent.commands.drawing import Picture, captioned, overlay, told
from edge_agent.pictures import read_gray
from edge_agent.qualification.gate import Comparison
from edge_agent.qualification.rates import Rate
from edge_agent.recipe import Recipe
from edge_agent.records import in_utf8
from edge_agent.wire import Verdict

REFERENCE = "fp32"
_MOST_FLIPS = 24  # shown of each candidate
_SIDE = 420
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#222;max-width:1180px;margin:28px auto;padding:0 20px}
h1{font-size:24px;margin:0 0 4px} h2{font-size:18px;margin:34px 0 8px} .muted{color:#6a6a6a;font-size:13px}
.banner{padding:14px 18px;border-radius:6px;margin:18px 0;font-size:17px;color:#fff}
.yes{background:#2e7d32} .no{background:#b23b00}
table{border-collapse:collapse;width:100%} th,td{border-bottom:1px solid #ddd;padding:7px 10px;text-align:left;vertical-align:top}
th{font-weight:600;background:#f5f5f5} td.n{white-space:nowrap} tr.chosen td{background:#e9f5ea}
.pass{color:#2e7d32;font-weight:600} .refused{color:#b23b00;font-weight:600} small{color:#6a6a6a}
.pair{display:flex;gap:12px;margin:8px 0 22px} .pair figure{margin:0} img{max-width:100%} figcaption{font-size:13px;color:#6a6a6a}
.warn{border-left:4px solid #e0a100;background:#fff8e1;padding:8px 14px;margin:8px 0} ul{margin:0;padding-left:18px}
"""


@dataclass(frozen=True, slots=True)
class Report:
    """All that the report tells."""

    manifest: Manifest
    recipe: Recipe
    golden: Sequence[Golden]
    judged: Mapping[str, Judged]
    found: Mapping[str, Comparison]
    speeds: Mapping[str, Speed]
    against: Mapping[str, list[str]]
    chosen: str | None


def write_report(file: Path, report: Report) -> None:
    """Write the page. Raises EdgeAgentError where matplotlib is missing."""
    body = "\n".join([*_head(report), *_warnings(report), *_table(report), *_margins(report), *_flips(report), *_origin(report)])
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>calibration</title><style>{_STYLE}</style>{body}</html>'
    file.write_text(page, encoding="utf-8")


def _text(value: object) -> str:
    return html.escape(str(value))


def _head(report: Report) -> Iterator[str]:
    model, gate = report.manifest.model, report.manifest.gate or {}
    yield f"<h1>Calibration of {_text(model['name'])}, recipe {_text(report.recipe.name)}</h1>"
    yield f"<div class=muted>{_text(gate['engine'])} on {_text(gate['gated_on']['processor'])}, {_text(gate['gated_at'])}</div>"
    if report.chosen is None:
        yield "<div class='banner no'>No candidate is better than FP32. FP32 judges.</div>"
        return
    speed, found = report.speeds[report.chosen], report.found[report.chosen]
    yield (
        f"<div class='banner yes'><b>{_text(report.chosen)}</b> is the fastest that passes: {speed.ratio:.2f} times FP32's speed, "
        f"{found.flips.count} of {found.flips.of} verdicts changed.</div>"
    )


def _warnings(report: Report) -> Iterator[str]:
    gate = report.manifest.gate or {}
    golden = gate["golden"]
    if not golden["defective"] and not golden["good"]:
        yield _warning("The golden images have no labels: flips against FP32 are known, slips and false rejects are not.")
    elif not golden["defective"]:
        yield _warning("No golden image is labelled defective: nothing is known of slips.")
    judged = max((found.judged for found in report.found.values()), default=0)
    if 0 < judged < 1000:
        yield _warning(
            f"{judged} images were judged: without a flip among them, up to {100 * _upper(judged):.2g} % may still flip."
        )
    eights = [speed.ratio for name, speed in report.speeds.items() if name.startswith("int8")]
    if eights and max(eights) < 1.05:
        on_processor = "on a processor without instructions for 8-bit products (VNNI, AMX)"
        on_gpu = "on a GPU for a network of few channels, which its 8-bit kernels pad to 32"
        usual = on_processor if gate["engine"].startswith("openvino") else on_gpu
        yield _warning(f"INT8 gains nothing here. That is usual {usual}.")
    ranges_of = set(report.manifest.calibration.get("contents", ()))
    if again := sum(each in ranges_of for each in contents(report.golden)):
        yield _warning(
            f"The ranges were measured on {again} of the {len(report.golden)} golden images. Others (--golden) would prove more."
        )


def _upper(images: int) -> float:
    """The upper 95 % bound of nothing in so many."""
    return float(1 - 0.025 ** (1 / images))


def _warning(text: str) -> str:
    return f"<div class=warn>{_text(text)}</div>"


def _table(report: Report) -> Iterator[str]:
    yield "<h2>Candidates</h2><table><tr><th></th><th>speed</th><th>verdicts flipped</th>"
    yield "<th>slips<br><small>bad parts passed</small></th><th>false rejects<br><small>good parts rejected</small></th>"
    yield "<th>small defects found</th><th>score margin</th><th></th></tr>"
    base = report.speeds[REFERENCE]
    any_found = next(iter(report.found.values()), None)
    yield f"<tr><td class=n><b>FP32</b><br><small>the model as it is</small></td><td class=n>{_speed(base)}</td><td></td>"
    rates = ("slips", "false_rejects", "small_recall")
    for name in rates:
        yield f"<td>{_rate(getattr(any_found, name)[0]) if any_found else ''}</td>"
    yield f"<td>{_least(any_found.least_margin[0]) if any_found else ''}</td><td></td></tr>"
    for name, reasons in report.against.items():
        yield from _row(report, name, reasons)
    yield "</table>"
    yield (
        "<p class=muted>Rates with their exact 95 % bounds. Speed: flat out, in turns with FP32, the median ratio of the rounds "
        "with its quartiles. Small defects: the smaller third of those labelled with a mask. Score margin: how far the highest "
        "probability stays from its threshold, in log-odds; the nearest image, and how far images moved.</p>"
    )


def _row(report: Report, name: str, reasons: Sequence[str]) -> Iterator[str]:
    mark = " class=chosen" if name == report.chosen else ""
    meaning = report.manifest.candidates[name].meaning
    yield f"<tr{mark}><td class=n><b>{_text(name)}</b><br><small>{_text(meaning)}</small></td>"
    if name in report.found:
        found, speed = report.found[name], report.speeds[name]
        ways = f"{found.to_pass.count} to PASS, {found.to_ng.count} to NG" + (
            f", {found.to_fault} to FAULT" if found.to_fault else ""
        )
        yield f"<td class=n>{_speed(speed)}</td><td>{_rate(found.flips)}<br><small>{ways}</small></td>"
        yield f"<td>{_change(found.slips[1], found.new_slips, found.mended_slips)}</td>"
        yield f"<td>{_change(found.false_rejects[1], found.new_false_rejects, found.mended_false_rejects)}</td>"
        yield f"<td>{_rate(found.small_recall[1])}</td><td>{_least(found.least_margin[1])}<br><small>{_moved(found)}</small></td>"
    else:
        yield "<td></td>" * 6
    items = "".join(f"<li>{_text(reason)}</li>" for reason in reasons)
    passed = "<span class=pass>passes" + (", chosen" if name == report.chosen else "") + "</span>"
    yield f"<td>{f'<span class=refused>refused</span><ul>{items}</ul>' if reasons else passed}</td></tr>"


def _speed(speed: Speed) -> str:
    ratio = "" if speed.ratio == speed.ratio_low == speed.ratio_high == 1 else f"<b>{speed.ratio:.2f} x</b> "
    spread = f" <small>({speed.ratio_low:.2f} to {speed.ratio_high:.2f})</small>" if ratio else ""
    return f"{ratio}{spread}<br><small>{speed.images_per_s:.1f} images/s, one takes {speed.latency_ms:.1f} ms</small>"


def _rate(rate: Rate) -> str:
    if not rate.of:
        return "<small>no such images</small>"
    return f"<b>{rate.count}</b> of {rate.of}<br><small>{_percent(rate.low)} to {_percent(rate.high)} %</small>"


def _percent(share: float) -> str:
    """Two digits, and 100 as 100."""
    return f"{100 * share:.2g}" if share < 0.995 else "100"


def _change(total: Rate, new: Rate, mended: Rate) -> str:
    if not total.of:
        return _rate(total)
    return f"{_rate(total)}<br><small>{new.count} new (at most {_percent(new.high)} %), {mended.count} mended</small>"


def _least(margin: float | None) -> str:
    return "" if margin is None else f"nearest {margin:.2f}"


def _moved(found: Comparison) -> str:
    if found.shift_median is None or found.shift_worst is None:
        return ""
    return f"moved {found.shift_median:.2f} in the median, {found.shift_worst:.2f} at most"


def _margins(report: Report) -> Iterator[str]:
    cases = {name: each.cases for name, each in report.judged.items()}
    if len(cases) > 1:
        yield "<h2>Score margins, FP32 against each candidate</h2>"
        yield f'<img alt="score margins" src="{_inline(margins_png(cases, REFERENCE))}">'
        yield (
            "<p class=muted>Each dot is an image. On the diagonal nothing changed; right of and above 0 its highest probability is "
            "beyond the threshold. Red rings: the verdict flipped.</p>"
        )


def _flips(report: Report) -> Iterator[str]:
    for name, found in report.found.items():
        yield f"<h2>{_text(name)}: {len(found.flipped)} flipped verdict{'s' * (len(found.flipped) != 1)}</h2>"
        if not found.flipped:
            yield "<p>None.</p>"
        for index in found.flipped[:_MOST_FLIPS]:
            image = report.golden[index]
            label = {True: "labelled defective", False: "labelled good", None: "no label"}[image.is_defective]
            yield f"<div><b>{_text(in_utf8(image.name))}</b> <small>{label}</small></div><div class=pair>"
            for side, title in ((REFERENCE, "FP32"), (name, name)):
                case = report.judged[side].cases[index]
                picture = _drawn(image, report.judged[side].verdicts[index], report.recipe, title)
                margin = "" if case.margin is None else f", score margin {case.margin:+.2f}"
                yield f'<figure><img alt="{_text(title)}" src="{_inline(_png(picture))}">'
                yield f"<figcaption>{_text(title)}: {case.outcome}{margin}</figcaption></figure>"
            yield "</div>"
        if len(found.flipped) > _MOST_FLIPS:
            yield f"<p>and {len(found.flipped) - _MOST_FLIPS} more: manifest.json numbers them all.</p>"


def _drawn(image: Golden, verdict: Verdict, recipe: Recipe, title: str) -> Picture:
    frame = read_gray(image.file)
    scale = min(1.0, _SIDE / max(frame.shape))
    picture = overlay(frame, verdict.blobs, recipe)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    broken = [told(finding) for finding in verdict.findings if not finding.ok] or list(verdict.reasons) or ["all rules kept"]
    return captioned(np.asarray(small, np.uint8), title, verdict.outcome, broken)


def _png(picture: Picture) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _origin(report: Report) -> Iterator[str]:
    manifest, gate = report.manifest, report.manifest.gate or {}
    made_of, golden = manifest.calibration, gate["golden"]
    rows: list[tuple[str, Any]] = [
        ("model", f"{manifest.model['name']} {manifest.model['version']}, {manifest.model['sha256'][:12]}"),
        ("recipe", f"{report.recipe.name} {report.recipe.hash[:12]}"),
        ("ranges", f"{made_of['ranges']}, from {made_of['used']} images ({made_of['sha256'][:12]})"),
        ("golden images", f"{golden['images']}: {golden['defective']} defective, {golden['good']} good ({golden['sha256'][:12]})"),
        ("limits", ", ".join(f"{name} {value:g}" for name, value in gate["limits"].items())),
        ("made with", ", ".join(f"{name} {version}" for name, version in manifest.made_on["tools"].items())),
        ("GPUs", ", ".join(gate["gated_on"]["gpus"]) or "none"),
    ]
    yield "<h2>Where this comes from</h2><table>"
    yield from (f"<tr><td class=n>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in rows)
    yield "</table>"
