"""The page that shows a demo's two rounds, and ``summary.json`` for machines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.config import load_project
from visionloop.core.errors import RefusedError
from visionloop.core.files import read_json, write_json, write_text
from visionloop.core.progress import say_done
from visionloop.core.targets import load_targets
from visionloop.pipelines.demo.charts import draw_quality

if TYPE_CHECKING:
    from visionloop.pipelines.demo.run import Demo

__all__ = ["shifted_slice", "show_p", "summarise", "write_report"]

Summary = dict[str, Any]

EVENT_PICTURES = 8
QUALITY_AFTER = {"solar": 0.70}
"""The least that the second round must reach on the shifted slice, by recipe."""


def write_report(demo: Demo) -> Summary:
    """Write ``reports/demo/index.html`` and ``summary.json``; print the table.

    Raises
    ------
    RefusedError
        If the second round did not reach what the recipe promises.
    """
    folder = demo.workspace.reports / "demo"
    summary = summarise(demo)
    write_json(folder / "summary.json", summary)
    first, second = demo.results["first_champion"], demo.results["second_champion"]
    draw_quality(folder / "quality.png", first["quality"], second["quality"], second.get("random"))
    pictures = list(_copy_event_pictures(demo.workspace.edge / "events", folder / "events"))
    write_text(folder / "index.html", _render(demo, summary, pictures))
    _print_table(summary)
    say_done("report", folder / "index.html", f"make up RECIPE={summary['recipe']}")
    least = QUALITY_AFTER.get(summary["recipe"])
    reached = summary["metric"]["after"]["value"]
    if least is not None and demo.studio == "scripted" and reached < least:
        raise RefusedError("demo", f"{summary['metric']['slice']}: {reached:.3f} < {least}")
    return {"page": "reports/demo/index.html"}


def summarise(demo: Demo) -> Summary:
    """The figures of a finished run, under the names that machines read."""
    results = demo.results
    project = load_project(demo.workspace.params)
    name = shifted_slice(demo)
    first, second = results["first_champion"], results["second_champion"]
    looks = [results["first_second_look"], results["second_second_look"]]
    drift = results["drift"]
    return {
        "recipe": project.recipe,
        "data_source": results["start"]["data_source"],
        "weights_source": results["first_model"]["training"].get("weights_source", ""),
        "seconds": demo.seconds,
        "gate": {
            "first": _decision(first["gate"]),
            "planted_bad_model": _decision(results["bad_model"]["gate"]),
            "second": _decision(second["gate"]),
        },
        "metric": {
            "name": second["quality"]["metric"],
            "slice": name,
            "before": _of_slice(first["quality"], name),
            "after": _of_slice(second["quality"], name),
            "random": (second.get("random") or {}).get(name),
        },
        "labels_spent": results["first_review"]["sent"] + results["second_review"]["sent"],
        "label_issues": looks,
        "label_issues_fixed": sum(look.get("repaired", 0) for look in looks),
        "drift": {
            "fired": drift["is_drift"],
            "p_values": {
                family: content["p_value"] for family, content in drift["families"].items()
            },
            "null_false_alarms": drift["null_false_alarms"],
            "null_draws": drift["null_draws"],
        },
        "parity": second["parity"],
        "engine": second["engine"],
        "events": results["serve"]["events"],
        "latency_p95_ms": second["quality"]["latency_p95_ms"],
        "dataset_versions": [
            results[step]["version"]
            for step in (
                "collect",
                "first_review",
                "first_second_look",
                "second_review",
                "second_second_look",
            )
        ],
        "registered_versions": [first["promotion"], second["promotion"]],
        "releases": [results["first_release"]["release"], results["second_release"]["release"]],
    }


def shifted_slice(demo: Demo) -> str:
    """The slice that the line switches to: the one whose limit binds only once trained for."""
    for row in load_targets(demo.workspace.targets).quality.slices:
        if row.applies_after_train_samples:
            return f"{row.column}={row.value}"
    return "overall"


def _of_slice(quality: Summary, name: str) -> Summary:
    found: Summary = quality["slices"].get(name, quality["overall"])
    return {key: found[key] for key in ("value", "low", "high", "n")}


def _decision(gate: Summary) -> Summary:
    return {key: gate[key] for key in ("verdict", "reasons", "notes", "package")}


def _copy_event_pictures(source: Path, target: Path) -> Iterator[str]:
    """A few event pictures, evenly over the run."""
    found = sorted(source.rglob("*.jpg"), key=lambda path: path.stat().st_mtime)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    count = min(EVENT_PICTURES, len(found))
    for number in range(count):
        picture = found[number * len(found) // count]
        shutil.copyfile(picture, target / picture.name)
        yield f"events/{picture.name}"


def _render(demo: Demo, summary: Summary, pictures: list[str]) -> str:
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    from visionloop.pipelines.demo.steps import STEPS

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["p"] = show_p
    steps = [
        {"title": title, "seconds": demo.seconds.get(name)}
        for name, title, _ in STEPS
        if name in demo.seconds
    ]
    gates = [
        ("first champion", demo.results["first_champion"]["gate"]),
        ("planted bad model (shuffled annotations)", demo.results["bad_model"]["gate"]),
        ("second champion", demo.results["second_champion"]["gate"]),
    ]
    links = [
        (text, f"../{place}")
        for text, place in (
            ("model card", "card/index.html"),
            ("gate report", "gate/gate.html"),
            ("evaluation", "evaluation/index.html"),
            ("worst cases", "robustness/curves.png"),
            ("drift", "monitoring/index.html"),
            ("drift, by Evidently", "monitoring/evidently.html"),
            ("data contract", "check/index.html"),
        )
        if (demo.workspace.reports / place).exists()
    ]
    return environment.get_template("report.html.j2").render(
        summary=summary,
        results=demo.results,
        steps=steps,
        total=sum(demo.seconds.values()),
        gates=gates,
        links=links,
        pictures=pictures,
        has_quality=(demo.workspace.reports / "demo" / "quality.png").exists(),
        cost=read_json(demo.workspace.reports / "labeling" / "meter.json"),
    )


def _print_table(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"visionloop demo: {summary['recipe']} ({summary['data_source']})")
    table.add_column("what")
    table.add_column("found", overflow="fold")
    metric, drift = summary["metric"], summary["drift"]
    rows = [
        (f"{metric['name']}, {metric['slice']}, before", _interval(metric["before"])),
        (f"{metric['name']}, {metric['slice']}, after", _interval(metric["after"])),
        ("the same with randomly chosen samples", _interval(metric["random"])),
        ("annotations asked of people", str(summary["labels_spent"])),
        ("wrong annotations repaired", str(summary["label_issues_fixed"])),
        *((f"gate: {name}", decision["verdict"]) for name, decision in summary["gate"].items()),
        ("drift p-values", ", ".join(f"{k} {show_p(v)}" for k, v in drift["p_values"].items())),
        ("null draws that fired", f"{drift['null_false_alarms']} of {drift['null_draws']}"),
        ("latency p95", f"{summary['latency_p95_ms']:.0f} ms"),
        ("releases", ", ".join(str(number) for number in summary["releases"])),
        ("minutes", f"{sum(summary['seconds'].values()) / 60:.1f}"),
    ]
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def show_p(value: float | None) -> str:
    """A p-value for a person."""
    if value is None:
        return "insufficient data"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}".rstrip("0")


def _interval(estimate: Summary | None) -> str:
    if estimate is None:
        return "not measured for this recipe"
    if estimate["value"] is None:
        return "not enough data"
    return f"{estimate['value']:.3f}  [{estimate['low']:.3f}, {estimate['high']:.3f}]"
