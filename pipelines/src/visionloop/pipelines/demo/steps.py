"""The steps of the demo: two rounds of the ring, each step one screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from visionloop.core.config import load_block, load_project
from visionloop.core.entities import Annotation
from visionloop.core.errors import RefusedError, VisionloopError
from visionloop.core.files import read_json
from visionloop.core.workspace import Workspace
from visionloop.pipelines.demo.measures import (
    doubtful_found,
    gate_summary,
    quality_by_slice,
    random_choice_quality,
)
from visionloop.pipelines.demo.report import write_report
from visionloop.pipelines.demo.run import Demo, WaitForPerson, set_param
from visionloop.pipelines.recipes import load_recipe

__all__ = ["STEPS"]

Result = dict[str, Any]

ANNOTATOR_ERRORS = 0.05
DRAFT_SHARE = 1 / 3
"""Share of a recipe's image passes that is enough for a model that only draws drafts."""

BAD_SHARE = 1 / 10
"""Share that is enough for a model that is bad on purpose."""

FRAMES_BEFORE = 150
"""Frames of the old product that the line shows before it switches."""

FRAMES_AFTER = 900
"""Frames of the new product until the second release; what is left plays after it."""


def start(demo: Demo) -> Result:
    """Label Studio starts in the background while the samples are prepared."""
    from visionloop.data.datasets.table import open_workspace_dataset
    from visionloop.labeling import server

    dataset = open_workspace_dataset(demo.workspace)
    server.start(demo.workspace, port=0)
    return {"data_source": dataset.source, "dataset": dataset.name}


def collect(demo: Demo) -> Result:
    """Import, check, split, freeze the first version, embed with the frozen backbone."""
    demo.set_param("data.version", "v1")
    demo.reproduce("check", "embed", "freeze")
    return version_facts(demo, "v1")


def first_model(demo: Demo) -> Result:
    """A first model on what experts annotated: it draws the drafts."""
    spend_passes(demo.workspace, DRAFT_SHARE)
    demo.reproduce("export")
    return {"training": read_json(demo.workspace.reports / "training" / "metrics.json")}


def first_review(demo: Demo) -> Result:
    """Unannotated samples go to Label Studio with drafts, and come back annotated."""
    return annotate(demo, "v2")


def first_second_look(demo: Demo) -> Result:
    """cleanlab doubts annotations; they get a second look."""
    return look_again(demo, "v3")


def first_champion(demo: Demo) -> Result:
    """Train, export, evaluate, judge, promote, build."""
    return champion(demo)


def bad_model(demo: Demo) -> Result:
    """A model trained on shuffled annotations: the gate refuses it, nothing promotes it."""
    from visionloop.evaluation.evaluate import evaluate
    from visionloop.evaluation.gate import gate
    from visionloop.evaluation.promotion import promote
    from visionloop.evaluation.robustness import robustness
    from visionloop.training.export import export
    from visionloop.training.train import train

    variant = Workspace(demo.workspace.root, variant="shuffled")
    variant.own.mkdir(parents=True, exist_ok=True)
    variant.params.write_bytes(demo.workspace.params.read_bytes())
    set_param(variant.params, "training.planted_fault", "shuffled_labels")
    spend_passes(variant, BAD_SHARE)
    train(workspace=variant)
    export(workspace=variant)
    evaluate(workspace=variant)
    robustness(workspace=variant)
    gate(workspace=variant)
    try:
        promote(workspace=variant)
    except RefusedError as refusal:
        return {"gate": gate_summary(variant), "refusal": str(refusal)}
    raise VisionloopError("planted bad model", "was promoted: the gate does not work")


def release(demo: Demo) -> Result:
    """The watcher verifies the champion and writes the signed release."""
    from visionloop.pipelines.watch import watch_once

    report = watch_once(workspace=demo.workspace)
    return {"release": report.release, "version": report.version}


def serve(demo: Demo) -> Result:
    """The edge agent takes the release and watches the line: the product switches."""
    from visionloop.data.datasets.line import write_line
    from visionloop.data.datasets.table import open_workspace_dataset
    from visionloop.serving.edge.agent import run_agent
    from visionloop.serving.params import ServingParams

    dataset = open_workspace_dataset(demo.workspace)
    before, after = load_block(demo.workspace.params, "serving", ServingParams).edge.sources
    write_line(dataset, "production_1", demo.workspace.root / before.path, limit=FRAMES_BEFORE)
    write_line(dataset, "production_2", demo.workspace.root / after.path, limit=FRAMES_AFTER)
    report = run_agent(workspace=demo.workspace)
    return {
        "release": report.release,
        "frames": report.frames,
        "events": report.events,
        "seconds": round(report.seconds, 1),
    }


def watch_line(demo: Demo) -> Result:
    """Windows before and after the switch are compared; drift asks for annotations."""
    from visionloop.monitoring.drift import drift
    from visionloop.monitoring.feedback import feedback
    from visionloop.monitoring.summarise import summarise

    summarise(workspace=demo.workspace)
    found = drift(workspace=demo.workspace)
    if not found.is_drift:
        raise VisionloopError("drift check", f"did not fire after the switch: {found.sentence}")
    asked = feedback(workspace=demo.workspace)
    return {**read_json(found.report), "requests": asked.requests}


def second_review(demo: Demo) -> Result:
    """The frames of the edge become samples; the most useful ones are annotated."""
    from visionloop.data.collection.collect import collect as collect_frames

    collected = collect_frames(workspace=demo.workspace)
    demo.reproduce("embed", "split")
    return {**annotate(demo, "v4"), "collected": collected.added}


def second_second_look(demo: Demo) -> Result:
    """The new annotations get their second look too."""
    return look_again(demo, "v5")


def second_champion(demo: Demo) -> Result:
    """The ring's second round: the model has seen what the line makes now."""
    return champion(demo)


def second_release(demo: Demo) -> Result:
    """The new champion becomes the next release, and the agent goes on with it."""
    from visionloop.data.datasets.line import write_line
    from visionloop.data.datasets.table import open_workspace_dataset
    from visionloop.serving.edge.agent import run_agent
    from visionloop.serving.params import ServingParams

    released = release(demo)
    dataset = open_workspace_dataset(demo.workspace)
    _, after = load_block(demo.workspace.params, "serving", ServingParams).edge.sources
    write_line(dataset, "production_2", demo.workspace.root / after.path)
    report = run_agent(workspace=demo.workspace)
    return {**released, "edge_release": report.release, "frames": report.frames}


def report(demo: Demo) -> Result:
    """The page that shows it all, and ``summary.json``."""
    return write_report(demo)


STEPS: tuple[tuple[str, str, Callable[[Demo], Result]], ...] = (
    ("start", "start Label Studio in the background", start),
    ("collect", "import, check, split, freeze, embed", collect),
    ("first_model", "train a first model: it draws drafts", first_model),
    ("first_review", "annotate in Label Studio", first_review),
    ("first_second_look", "doubt annotations and look again", first_second_look),
    ("first_champion", "train, export, evaluate, judge, promote", first_champion),
    ("bad_model", "refuse a planted bad model", bad_model),
    ("first_release", "verify the champion and release it", release),
    ("serve", "watch the line at the edge; the product switches", serve),
    ("drift", "find the drift and ask for annotations", watch_line),
    ("second_review", "annotate the most useful new samples", second_review),
    ("second_second_look", "doubt the new annotations and look again", second_second_look),
    ("second_champion", "second round: train, evaluate, judge, promote", second_champion),
    ("second_release", "release the new champion to the edge", second_release),
    ("report", "write the report", report),
)
"""Name, title and function of each step, in order."""


def annotate(demo: Demo, version: str) -> Result:
    """Select, push with drafts, review, pull, freeze."""
    from visionloop.labeling import server
    from visionloop.labeling.annotator import review
    from visionloop.labeling.meter import meter
    from visionloop.labeling.project import setup
    from visionloop.labeling.pull import pull
    from visionloop.labeling.push import push
    from visionloop.labeling.selection import select

    server.start(demo.workspace, port=0)
    server.wait_ready(demo.workspace)
    setup(workspace=demo.workspace)
    chosen = f"chosen for {version}"
    if chosen not in demo.results:
        # Kept at once: taken up again, the step must not choose a second time.
        demo.results[chosen] = select(workspace=demo.workspace).selected
        demo.save()
    push(workspace=demo.workspace)
    result: Result = {"sent": demo.results[chosen]}
    if demo.studio == "scripted":
        done = review(
            workspace=demo.workspace,
            truth=truth_of(demo),
            error_share=ANNOTATOR_ERRORS,
            seed=load_project(demo.workspace.params).seed,
        )
        result |= {"tasks": done.tasks, "actions": done.actions, "planted": done.mistakes}
    else:
        wait_for_person(demo, "Next best")
    pull(workspace=demo.workspace)
    result["seconds_a_sample"] = meter(workspace=demo.workspace).first.seconds_per_image
    demo.set_param("data.version", version)
    demo.reproduce("freeze")
    return {**result, **version_facts(demo, version)}


def look_again(demo: Demo, version: str) -> Result:
    """Find doubtful annotations, send them back, pull the verdicts, freeze."""
    from visionloop.data.quality.label_issues import find
    from visionloop.labeling import server
    from visionloop.labeling.annotator import review
    from visionloop.labeling.pull import pull
    from visionloop.labeling.second_look import issues

    server.start(demo.workspace, port=0)
    server.wait_ready(demo.workspace)
    find(workspace=demo.workspace)
    result: Result = doubtful_found(demo.workspace)
    sent = issues(workspace=demo.workspace)
    result["sent"] = sent.sent
    if demo.studio == "scripted":
        seen = review(
            workspace=demo.workspace,
            truth=truth_of(demo),
            error_share=ANNOTATOR_ERRORS,
            seed=load_project(demo.workspace.params).seed,
            kind="second_look",
        )
        result |= {"looked_at": seen.tasks, "repaired": seen.repaired, "left": seen.mistakes}
    else:
        wait_for_person(demo, "Second look")
    pull(workspace=demo.workspace)
    demo.set_param("data.version", version)
    demo.reproduce("freeze")
    return {**result, **version_facts(demo, version)}


def champion(demo: Demo) -> Result:
    """Everything from training to promotion, as ``dvc repro`` runs it."""
    spend_passes(demo.workspace, 1.0)
    demo.reproduce()
    demo.push()
    reports = demo.workspace.reports
    result: Result = {
        "gate": gate_summary(demo.workspace),
        "quality": quality_by_slice(demo.workspace),
        "parity": read_json(reports / "export" / "parity.json"),
        "engine": read_json(demo.workspace.engine / "engine.json"),
        "promotion": read_json(reports / "promotion" / "promotion.json"),
    }
    if "second_review" in demo.results:
        result["random"] = random_choice_quality(demo.workspace, truth_of(demo), ANNOTATOR_ERRORS)
    return result


def spend_passes(workspace: Workspace, share: float) -> None:
    """Where a recipe gives its training budget in image passes: spend this share of it."""
    recipe = load_recipe(load_project(workspace.params).recipe)
    passes = recipe.params.get("training", {}).get("image_passes", 0)
    if passes:
        set_param(workspace.params, "training.image_passes", round(share * passes))


def truth_of(demo: Demo) -> dict[str, list[Annotation]]:
    """What the scripted annotator knows; nothing else in the ring reads it."""
    from visionloop.data.datasets.table import open_workspace_dataset

    return open_workspace_dataset(demo.workspace).truth()


def version_facts(demo: Demo, name: str) -> Result:
    """Fingerprint and counts of a dataset version."""
    manifest = read_json(demo.workspace.version(name) / "manifest.json")
    keys = ("name", "fingerprint", "samples", "annotations", "splits", "sources")
    return {"version": {key: manifest[key] for key in keys}}


def wait_for_person(demo: Demo, tab: str) -> None:
    """Stop here while tasks of a tab are open, and say what to open.

    Raises
    ------
    WaitForPerson
        If at least one task waits for a person.
    """
    from visionloop.labeling import server
    from visionloop.labeling.client import connect
    from visionloop.labeling.project import find_project, find_tab
    from visionloop.labeling.state import credentials

    project = load_project(demo.workspace.params)
    client = connect(demo.workspace)
    view = find_tab(client, find_project(client, project)["id"], tab)["id"]
    waiting = sum(1 for _ in client.tasks(view=view))
    if waiting == 0:
        return
    account = credentials(demo.workspace)
    raise WaitForPerson(
        f"\n{waiting} samples wait for you in Label Studio:\n"
        f"  open      {server.status(demo.workspace).url}\n"
        f"  sign in   {account.email}   password: {account.password}\n"
        f"  tab       {tab}\n"
        f"then      make demo STUDIO=human RECIPE={project.recipe}   goes on from here"
    )
