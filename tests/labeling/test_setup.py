"""What setup makes: interfaces, instructions with pictures, tabs; twice changes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import httpx
import pytest

from visionloop.core.config import ProjectParams, load_project
from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError
from visionloop.data.formats import coco
from visionloop.labeling.client import connect
from visionloop.labeling.interface import INTERFACES, instructions, labeling_interface
from visionloop.labeling.project import ensure_recipe, find_project, setup
from visionloop.labeling.server import _environment
from visionloop.labeling.state import Credentials


def project_of(task: str, classes: list[str]) -> ProjectParams:
    return ProjectParams(recipe="t", model="ttt", vision_task=task, classes=classes)


@pytest.mark.parametrize("name", INTERFACES)
def test_every_interface_is_one_that_label_studio_knows(name) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    config = labeling_interface(project_of(INTERFACES[name][0], ["good", "bad"]), name)
    LabelInterface(config).validate()


@pytest.mark.parametrize("name", INTERFACES)
def test_classes_have_colours_and_keys_and_no_key_means_two_things(name) -> None:
    classes = ["good", "bad & <worse>"]
    root = ElementTree.fromstring(
        labeling_interface(project_of(INTERFACES[name][0], classes), name)
    )
    options = [option for control in root for option in control]
    keys = [option.get("hotkey") for option in options]
    assert all(keys)
    assert len(set(keys)) == len(keys)
    colours = {option.get("value"): option.get("background") for option in options}
    assert set(colours) == set(classes)
    assert len(set(colours.values())) == 2


def test_an_interface_of_another_vision_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of: classes, anomaly"):
        labeling_interface(project_of("classification", ["a", "b"]), "boxes")
    with pytest.raises(ConfigError, match="two classes"):
        labeling_interface(project_of("classification", ["a", "b", "c"]), "anomaly")


def annotate(project, rows) -> None:
    images = [coco.CocoImage(one, f"{one}.png", 60, 40) for one in {row.sample_id for row in rows}]
    coco.save(project.boards.raw / "annotations.json", images, rows, ["open", "short", "spur"])


def test_instructions_show_pictures_of_each_class_and_of_no_other(project) -> None:
    a, b, c, d = project.ids[:4]
    rows = [
        Annotation(a, "open", (0, 0, 10, 10)),
        Annotation(b, "open", (0, 0, 30, 30)),
        Annotation(c, "open", (0, 0, 5, 5)),
        Annotation(d, "open", (0, 0, 60, 40)),
        Annotation(d, "short", (0, 0, 9, 9)),
    ]
    annotate(project, rows)
    params = load_project(project.boards.params)
    text = instructions(project.boards, params)
    assert re.findall(r"images/(\w+)\.png", text) == [b, a]  # the largest first; d shows two
    assert "<h4>short (key 2)</h4>" in text
    (project.boards.images / f"{b}.png").unlink()
    assert re.findall(r"images/(\w+)\.png", instructions(project.boards, params)) == [a, c]


def test_instructions_of_a_class_with_a_hostile_name_stay_text(project) -> None:
    params = project_of("detection", ["<script>alert(1)</script>"])
    assert "<script>" not in instructions(project.boards, params)


def test_setup_of_every_interface_changes_nothing_the_second_time(studio, tmp_path) -> None:
    space = neighbour_of(studio, tmp_path)
    for name in ("polygons", "masks", "boxes"):
        text = re.sub(r"interface: \w+", f"interface: {name}", space.params.read_text())
        space.params.write_text(text)
        setup(workspace=space)
        found = find_project(connect(space), load_project(space.params))
        assert found["show_instruction"]
        assert found["label_config"].count("<Label ") % 3 == 0
        changed_at = _state(space)
        setup(workspace=space)
        assert _state(space) == changed_at


def test_pictures_in_the_instructions_are_served_to_the_signed_in(studio, tmp_path) -> None:
    space = neighbour_of(studio, tmp_path)
    rows = [Annotation(studio.ids[0], "spur", (0, 0, 10, 10))]
    images = [coco.CocoImage(studio.ids[0], f"{studio.ids[0]}.png", 60, 40)]
    coco.save(space.studio_annotations, images, rows, ["open", "short", "spur"])
    setup(workspace=space)
    client = connect(space)
    text = find_project(client, load_project(space.params))["expert_instruction"]
    (address,) = re.findall(r'src="([^"]+)"', text)
    headers = {"Authorization": f"Bearer {client._fresh_access()}"}
    assert httpx.get(client.url + address, headers=headers).content.startswith(b"\x89PNG")
    assert httpx.get(client.url + address).status_code == 401


def neighbour_of(studio, root):
    import shutil

    space = type(studio.cells)(root)
    (root / "data").mkdir()
    (root / "data" / "raw").symlink_to(studio.cells.raw)
    (root / "studio").mkdir()
    for name in ("server.json", "credentials.json"):
        shutil.copy(studio.cells.studio_state / name, root / "studio" / name)
    space.params.write_text(
        f"project: {{recipe: t, model: '{root.name}', vision_task: detection,"
        " classes: [open, short, spur]}\nlabeling: {port: 0, interface: boxes}\n"
    )
    return space


def _state(space) -> list:
    client = connect(space)
    number = find_project(client, load_project(space.params))["id"]
    views = client.get("/api/dm/views/", project=number)
    project = client.get(f"/api/projects/{number}/")
    kept = ("label_config", "expert_instruction", "show_instruction", "sampling")
    storages = client.get("/api/storages/localfiles/", project=number)
    return [views, [project[name] for name in kept], len(storages)]


def test_signup_is_closed(studio) -> None:
    client = httpx.Client(base_url=connect(studio.cells).url, follow_redirects=True)
    client.get("/user/login/")
    form = {"email": "stranger@example.com", "password": "a-long-password-1", "how_find_us": ""}
    form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
    client.post("/user/signup/", data=form, headers={"Referer": str(client.base_url)})
    emails = {row["email"] for row in connect(studio.cells).get("/api/users/")}
    assert "stranger@example.com" not in emails


@pytest.mark.parametrize(("one_host", "blocked"), [("true", "false"), ("false", "true")])
def test_local_addresses_are_allowed_on_one_host_only(project, one_host, blocked) -> None:
    text = project.cells.params.read_text().replace("{port: 0", f"{{one_host: {one_host}, port: 0")
    project.cells.params.write_text(text)
    environment = _environment(project.cells, Credentials("a@b", "c"))
    assert environment["ML_BLOCK_LOCAL_IP"] == environment["SSRF_PROTECTION_ENABLED"] == blocked


def test_a_folder_of_another_recipe_is_refused(project) -> None:
    ensure_recipe(project.cells, "test")
    with pytest.raises(ConfigError, match="is a project of recipe 'test', not 'solar'"):
        ensure_recipe(project.cells, "solar")


def test_an_unknown_recipe_is_told(tmp_path) -> None:
    line = [sys.executable, "-m", "visionloop.labeling", "setup", "-w", str(tmp_path)]
    ran = subprocess.run([*line, "--recipe", "sollar"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "sollar" in ran.stderr
    assert "solar" in ran.stderr
    assert not (tmp_path / "params.yaml").exists()
