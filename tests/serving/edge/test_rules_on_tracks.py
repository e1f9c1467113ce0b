"""Every kind of rule on made tracks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from visionloop.core.entities import ClassProbabilities, Detections, Prediction
from visionloop.core.errors import ConfigError
from visionloop.serving.edge.rules.table import RULES, RulePlace, Scene, make_rules
from visionloop.serving.edge.tracking import ClassTracker
from visionloop.serving.edge.zones import Line, PlaneMap, Zone, load_plane_map
from visionloop.serving.edge_params import RuleParams
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs

CLASSES = ["person", "helmet", "bare head", "scratch"]
MANIFEST = Manifest(
    name="m",
    vision_task="detection",
    classes=CLASSES,
    input=ImageInput(width=32, height=32),
    outputs=ModelOutputs(answer="a", kind="yolo"),
)
PLACE = RulePlace(
    classes=CLASSES,
    zones={"left": Zone.of([[0, 0], [0.5, 0], [0.5, 1], [0, 1]])},
    lines={"door": Line.of([[0.5, 0.0], [0.5, 1.0]])},
    plane=PlaneMap(np.diag([0.01, 0.01, 1.0])),  # 1 pixel is 1 cm
    is_followed=True,
)
SIZE = (640, 360)


def make(kind: str, place: RulePlace = PLACE, **fields):
    params = RuleParams(name="r", kind=kind, **{"class_name": "person", **fields})
    (rule,) = make_rules([params], MANIFEST, place)
    return rule


def box(x: float, y: float = 180, *, size=(40, 80), name="person", sure=0.9, track=1):
    """A box that stands with its foot point at (x, y)."""
    return ([x - size[0] / 2, y - size[1], x + size[0] / 2, y], CLASSES.index(name), sure, track)


def scene(seconds: float, *boxes) -> Scene:
    rows = list(zip(*boxes, strict=True)) or [[], [], [], []]
    xyxy, class_id, confidence, tracks = rows
    detections = Detections(
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.array(class_id, np.int64),
        np.array(confidence, np.float32),
        tracker_id=np.array(tracks, np.int64),
    )
    return Scene(Prediction(detections), *SIZE, seconds)


def play(rule, scenes) -> list[tuple[float, dict]]:
    return [(one.seconds, seen.facts) for one in scenes for seen in rule.look(one)]


def walk(xs, *, start=0.0, step=0.2, **fields):
    return [scene(start + n * step, box(x, **fields)) for n, x in enumerate(xs)]


def test_every_kind_of_the_table_is_tried_here_or_beside():
    here = {
        "zone_entry", "line_crossing", "dwell", "forbidden_class", "count", "density", "absence",
        "missing_ppe", "defect_size", "defect_rate", "anomaly",
    }  # fmt: skip
    assert here | {"class_confidence", "detection_present"} == set(RULES)


def test_zone_entry_fires_once_an_object_and_again_when_it_came_back():
    rule = make("zone_entry", zone="left")
    way = [600, 500, 400, 300, 250, 200, 150, 400, 500, 300, 200]
    assert [moment for moment, _ in play(rule, walk(way))] == pytest.approx([0.8, 2.0])
    other = play(rule, walk([200, 190], start=5.0, track=2))
    assert [facts["track"] for _, facts in other] == [2]


def test_zone_entry_leaves_out_who_was_inside_already_where_that_is_asked():
    late = make("zone_entry", zone="left", settings={"first_seen_counts": False})
    assert play(late, walk([100] * 5)) == []
    assert len(play(late, walk([100, 500, 100, 100], start=5))) == 1


def test_zone_entry_needs_the_class_and_the_confidence():
    assert play(make("zone_entry", zone="left"), walk([100] * 5, sure=0.4)) == []
    assert play(make("zone_entry", zone="left"), walk([100] * 5, name="helmet")) == []
    assert len(play(make("zone_entry", class_name=""), walk([100] * 5, name="helmet"))) == 1


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("any", ["backward", "forward"]),
        ("forward", ["forward"]),
        ("backward", ["backward"]),
    ],
)
def test_line_crossing_knows_the_direction(direction, expected):
    """The line runs downwards: who walks along it has the picture's left on the right hand."""
    rule = make("line_crossing", line="door", settings={"direction": direction})
    found = play(rule, walk([200, 280, 360, 400, 330, 240]))
    assert [facts["direction"] for _, facts in found] == expected


def test_line_crossing_counts_who_steps_onto_the_line_once():
    rule = make("line_crossing", line="door")
    assert len(play(rule, walk([300, 320, 320, 340, 360]))) == 1
    assert play(rule, walk([300, 320, 320, 300], start=9, track=2)) == []
    short = RulePlace(CLASSES, lines={"door": Line.of([[0.5, 0], [0.5, 0.2]])}, is_followed=True)
    assert play(make("line_crossing", short, line="door"), walk([200, 400])) == []


def test_dwell_survives_a_short_gap_and_not_a_long_one():
    rule = make("dwell", zone="left", settings={"seconds": 10, "gap_s": 3})
    stays = [scene(t, box(100)) for t in (0, 2, 4)] + [scene(6)]
    found = play(rule, [*stays, scene(7, box(100)), scene(10, box(100)), scene(12, box(100))])
    assert [(moment, facts["seconds"]) for moment, facts in found] == [(10, 10.0)]
    gone = make("dwell", zone="left", settings={"seconds": 10, "gap_s": 3})
    assert play(gone, [*stays, *[scene(t, box(100)) for t in (9, 12, 15, 18)]]) == []


def test_forbidden_class_fires_once_an_object_when_it_is_certain():
    rule = make("forbidden_class", class_name="scratch", settings={"frames": 3})
    found = play(rule, walk([100] * 6, name="scratch"))
    assert [moment for moment, _ in found] == pytest.approx([0.4])


def test_count_must_last_and_end_before_it_is_told_again():
    rule = make("count", zone="left", settings={"at_least": 2, "seconds": 1})
    two = [box(100), box(200, track=2)]
    crowd = [scene(t / 5, *two) for t in range(20)]
    assert [(moment, facts["count"]) for moment, facts in play(rule, crowd)] == [(1.0, 2)]
    flicker = [scene(4.2, box(100)), scene(4.4, *two), scene(6, *two)]
    assert play(rule, flicker) == []
    assert len(play(rule, [scene(t, *two) for t in (20, 20.5, 21)])) == 0
    assert play(rule, [scene(30), scene(32, *two), scene(32.6, *two), scene(33, *two)])


def test_count_from_below():
    rule = make("count", settings={"at_most": 1, "seconds": 2})
    two = [box(100), box(500, track=2)]
    found = play(rule, [scene(0, *two), scene(1, box(100)), scene(2), scene(3, box(500))])
    assert [moment for moment, _ in found] == [3]


def test_density_is_people_by_square_metre_of_the_zone():
    """The left half is 3.2 m x 3.6 m = 11.52 square metres."""
    three = [box(100 + 50 * n, track=n + 1) for n in range(3)]
    for limit, fires in ((0.26, True), (0.27, False)):
        rule = make("density", zone="left", settings={"per_square_metre": limit, "seconds": 0})
        found = play(rule, [scene(0, *three)])
        assert bool(found) is fires
    assert make("density", zone="left", settings={"per_square_metre": 0.1}) is not None
    bare = RulePlace(CLASSES, zones=PLACE.zones)
    with pytest.raises(ConfigError, match="needs metres, and the camera has no plane"):
        make("density", bare, settings={"per_square_metre": 1})


def test_absence_is_told_once_until_somebody_was_there():
    rule = make("absence", zone="left", settings={"seconds": 60})
    scenes = [scene(0), scene(59), scene(60), scene(90), scene(100, box(100)), scene(159)]
    assert [moment for moment, _ in play(rule, scenes)] == [60]
    assert [moment for moment, _ in play(rule, [scene(161)])] == [161]


def test_missing_ppe_looks_for_the_helmet_at_the_head():
    settings = {"person": "person", "ppe": "helmet", "seconds": 0.4}
    person = box(200, 200, size=(60, 160))
    on_head = box(200, 70, size=(30, 25), name="helmet", sure=0.3, track=7)
    in_hand = box(200, 170, size=(30, 25), name="helmet", track=7)
    for worn, fires in ((on_head, False), (in_hand, True), (None, True)):
        rule = make("missing_ppe", class_name="", settings=settings)
        boxes = [person] if worn is None else [person, worn]
        found = play(rule, [scene(t / 5, *boxes) for t in range(5)])
        assert [moment for moment, _ in found] == (pytest.approx([0.4]) if fires else [])


def test_missing_ppe_by_the_bare_head_and_only_in_the_zone():
    settings = {"bare": "bare head", "seconds": 0}
    rule = make("missing_ppe", class_name="", zone="left", settings=settings)
    assert play(rule, [scene(0, box(500, name="bare head"))]) == []
    assert len(play(rule, [scene(1, box(100, name="bare head"))])) == 1
    with pytest.raises(ConfigError, match="either bare, or person and ppe"):
        make("missing_ppe", settings={"bare": "bare head", "person": "person", "ppe": "helmet"})


def test_defect_size_in_millimetres_and_as_a_share():
    """40 x 80 pixels are 400 x 800 mm on the plane, and 1/8 of the picture's longer side."""
    for settings, fires in (
        ({"millimetres": 790}, True),
        ({"millimetres": 810}, False),
        ({"share": 0.12}, True),
        ({"share": 0.13}, False),
    ):
        rule = make("defect_size", class_name="scratch", settings=settings)
        found = play(rule, walk([100, 110, 120], name="scratch"))
        assert len(found) == (1 if fires else 0), settings


def test_defect_rate_counts_each_defect_once():
    rule = make("defect_rate", class_name="scratch", settings={"per_hour": 10, "window_s": 1800})
    same = [scene(t, box(100, name="scratch", track=1)) for t in range(0, 100, 2)]
    assert play(rule, same) == []
    others = [scene(100 + t, box(100, name="scratch", track=2 + t)) for t in range(10)]
    assert [facts["count"] for _, facts in play(rule, others)] == [6]
    assert play(rule, [scene(5000, box(100, name="scratch", track=50))]) == []


def test_anomaly_needs_enough_of_the_newest_frames():
    manifest = MANIFEST.model_copy(
        update={"vision_task": "anomaly", "classes": ["normal", "anomaly"]}
    )
    params = RuleParams(
        name="r", kind="anomaly", minimum_confidence=0.6, settings={"of_frames": 4, "at_least": 3}
    )
    (rule,) = make_rules([params], manifest)
    values = [0.9, 0.1, 0.8, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9]
    scenes = [
        Scene(Prediction(ClassProbabilities(np.array([1 - v, v]))), 10, 10, n)
        for n, v in enumerate(values)
    ]
    assert [moment for moment, _ in play(rule, scenes)] == [3, 12]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "zone_entri"}, "did you mean 'zone_entry'"),
        ({"kind": "zone_entry", "zone": "right"}, "there is: left"),
        ({"kind": "line_crossing"}, "there is no line ''"),
        ({"kind": "dwell"}, "settings.seconds: Field required"),
        ({"kind": "dwell", "settings": {"seconds": "ten"}}, "settings.seconds"),
        ({"kind": "count"}, "either at_least or at_most"),
        ({"kind": "anomaly", "class_name": "", "settings": {"at_least": 2}}, "could never fire"),
        ({"kind": "zone_entry", "class_name": "dog"}, "the package has no class 'dog'"),
        ({"kind": "detection_present", "settings": {"x": 1}}, "has no settings"),
    ],
)
def test_wrong_rules_are_said(fields, said):
    with pytest.raises(ConfigError) as caught:
        make(**fields)
    assert said in str(caught.value)


def test_rules_that_follow_objects_are_refused_where_nothing_is_followed():
    with pytest.raises(ConfigError, match="only cameras allow"):
        make("dwell", RulePlace(CLASSES), settings={"seconds": 1})


def test_polygons_hold_points_as_opencv_says():
    import cv2

    rng = np.random.default_rng(0)
    corners = np.array([[0.1, 0.1], [0.9, 0.2], [0.5, 0.5], [0.8, 0.9], [0.2, 0.8]])
    zone = Zone.of(corners.tolist())
    points = rng.random((500, 2))
    contour = (corners * 1e4).astype(np.int32)
    expected = [
        cv2.pointPolygonTest(contour, (float(x), float(y)), False) > 0 for x, y in points * 1e4
    ]
    assert (zone.holds(points) == expected).mean() > 0.995
    assert zone.area == pytest.approx(cv2.contourArea(contour) / 1e8, abs=1e-4)


def test_the_plane_is_that_of_data_calibrate(tmp_path):
    path = tmp_path / "plane.json"
    path.write_text(json.dumps({"homography": np.diag([0.02, 0.03, 1]).tolist()}))
    plane = load_plane_map(path, camera="c")
    assert plane.to_metres(np.array([[100.0, 100.0]])) == pytest.approx(np.array([[2.0, 3.0]]))
    path.write_text(json.dumps({"homography": np.eye(3).tolist(), "calibration_id": "abc"}))
    with pytest.raises(ConfigError, match="straightened pictures"):
        load_plane_map(path, camera="c")
    horizon = PlaneMap(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.01, -1]]))
    assert np.isnan(horizon.to_metres(np.array([[5.0, 50.0]]))).all()


def walking(seconds_apart: float, count: int = 12):
    """Two people who cross each other's way, 120 pixels a second; the second is weak at times."""
    for n in range(count):
        x = n * seconds_apart * 120
        rows = [box(100 + x, 200), box(500 - x, 340, sure=0.3 if n % 4 == 3 else 0.8)]
        xyxy, class_id, confidence, _ = zip(*rows, strict=True)
        yield Detections(np.array(xyxy), np.array(class_id), np.array(confidence))


def test_two_people_keep_their_numbers_at_five_frames_a_second():
    tracker = ClassTracker()
    tracks = [tracker.follow(boxes, *SIZE).tracker_id.tolist() for boxes in walking(0.2)]
    assert len({tuple(row) for row in tracks[1:]}) == 1
    assert len(set(tracks[-1])) == 2 and min(tracks[-1]) > 0


def test_another_size_of_picture_and_another_class_are_other_objects():
    tracker = ClassTracker()
    boxes = next(walking(0.2))
    first = tracker.follow(boxes, *SIZE).tracker_id
    again = tracker.follow(boxes, 1280, 720).tracker_id
    assert not set(first) & set(again)
    other = Detections(boxes.xyxy, boxes.class_id + 1, boxes.confidence)
    assert not set(tracker.follow(other, 1280, 720).tracker_id) & set(again)
    assert len(tracker.follow(Detections.empty(), 1280, 720)) == 0
