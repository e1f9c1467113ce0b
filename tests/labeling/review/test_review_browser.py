"""The tab "Disagreements" as the person who settles sees it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from visionloop.core.config import load_project
from visionloop.data.formats import coco
from visionloop.labeling.annotator import review as annotate
from visionloop.labeling.client import connect
from visionloop.labeling.project import find_project, find_tab, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.regions import Region
from visionloop.labeling.review.sending import review
from visionloop.labeling.review.tabs import DISAGREEMENTS, tab_title
from visionloop.labeling.state import credentials

BEA, CARL = "bea@example.org", "carl@example.org"
PASSWORD = "for-the-tests-only-1"
WAIT = 60_000


@pytest.fixture(scope="module")
def space(neighbour, accounts):
    """One picture: the owner answered rightly, Bea will name another class, Carl settles."""
    space = neighbour.boards
    owner = credentials(space).email
    block = f"review: {{share: 1.0, min_pairs: 5, reviewers: [{owner}, {BEA}]}}"
    text = space.params.read_text().replace("second_look: 5", f"second_look: 5, {block}")
    space.params.write_text(text)
    setup(workspace=space)
    neighbour.select(space, [one for one in neighbour.ids if len(neighbour.boxes[one]) == 1][:1])
    push(workspace=space)
    annotate(workspace=space, truth=neighbour.boxes, error_share=0)
    pull(workspace=space)
    review(workspace=space)
    return space


@pytest.fixture
def page(space, browser) -> Iterator[object]:
    """Chromium, signed in as Carl."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{connect(space).url}/user/login/", timeout=WAIT)
    page.fill("input[name=email]", CARL)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit], input[type=submit]")
    page.wait_for_load_state("networkidle")
    yield page
    page.close()


def test_both_opinions_are_drawn_and_one_is_kept(space, people, neighbour, page) -> None:
    (opinion,) = people[BEA].tasks(tab_title(BEA, (credentials(space).email, BEA)))
    sample = opinion["data"]["sample_id"]
    (right,) = neighbour.boxes[sample]
    other = next(one for one in ("open", "short", "spur") if one != right.class_name)
    people[BEA].answer(opinion, [Region(other, right.xyxy, "r0")])
    pull(workspace=space)
    assert review(workspace=space).disputes == 1

    client = connect(space)
    project = find_project(client, load_project(space.params))["id"]
    tab = find_tab(client, project, DISAGREEMENTS)["id"]
    page.goto(f"{client.url}/projects/{project}/data?tab={tab}")
    page.get_by_text("Two people disagree").filter(visible=True).first.click(timeout=WAIT)
    page.wait_for_selector('img[alt="image"]', timeout=WAIT)
    page.wait_for_function(
        "() => window.Htx?.annotationStore?.selected?.objects[0]?.imageIsLoaded", timeout=WAIT
    )
    shown = "() => window.Htx.annotationStore.selected.regions.map(one => one.labels[0])"
    assert sorted(page.evaluate(shown)) == sorted([right.class_name, other])
    assert page.get_by_role("heading", name="Two people disagree").first.is_visible()
    for name in (BEA, credentials(space).email):  # who said what is not told
        assert not page.get_by_text(name).filter(visible=True).count()

    page.evaluate(
        "name => { const all = window.Htx.annotationStore.selected.regions;"
        " all.find(one => one.labels[0] === name).deleteRegion() }",
        other,
    )
    with page.expect_response(
        lambda answer: "/annotations" in answer.url and answer.request.method == "POST",
        timeout=WAIT,
    ) as answer:
        page.get_by_test_id("bottombar-submit-button").click()
    assert answer.value.status == 201
    pull(workspace=space)
    rows = [row for row in coco.load(space.studio_annotations)[1] if row.sample_id == sample]
    assert [row.class_name for row in rows] == [right.class_name]
    assert rows[0].annotator.startswith(f"{CARL}, settling")
