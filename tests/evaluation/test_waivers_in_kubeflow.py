"""Kubeflow's gate component reads the waivers of the project. Annotations are not postponed here:
kfp reads them as types."""

from visionloop.evaluation.gate import gate
from visionloop.evaluation.waivers import waive

REPORTS = ("check", "export", "evaluation", "robustness")


def test_kubeflows_gate_sees_them(measured, tmp_path, monkeypatch) -> None:
    """The component of the pipelines, through ``kfp.local``: a new waiver is a new input."""
    from kfp import dsl, local

    from visionloop.pipelines.component_files import pack_config
    from visionloop.pipelines.components import judge_package
    from visionloop.pipelines.kubeflow import name_waivers

    measured.edit("targets.yaml", lambda t: t["quality"].update(per_class={"defective": 1.0}))
    space = measured.workspace
    (space.reports / "check").mkdir(exist_ok=True)
    config = pack_config(space)

    @dsl.pipeline(name="judge")
    def judge(waivers_uri: str, waivers_sha256: str) -> str:
        places = {name: space.reports / name for name in REPORTS} | {"package": space.package}
        inputs = {
            name: dsl.importer(
                artifact_uri=str(place),
                artifact_class=dsl.Model if name == "package" else dsl.Artifact,
            ).output
            for name, place in places.items()
        }
        waivers = dsl.importer(
            artifact_uri=waivers_uri,
            artifact_class=dsl.Artifact,
            metadata={"sha256": waivers_sha256},
        ).output
        judged = judge_package(config=config, waivers=waivers, **inputs)
        return judged.outputs["Output"]

    monkeypatch.chdir(tmp_path)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(tmp_path / "runs"),
        enable_caching=True,
        cache_root=str(tmp_path / "cache"),
    )

    def verdict() -> str:
        return judge(**name_waivers(space)).outputs["Output"]

    assert verdict() == "refused"  # there is no folder yet: an empty one is made
    gate(workspace=space)
    path = waive(
        workspace=space,
        check="recall of defective",
        reason="the fog lamp is on its way, until then a person looks",
        author="Ada",
        days=30,
    )
    assert verdict() == "passed"
    path.write_text(path.read_text().replace("Ada", "Eva"))
    assert verdict() == "refused"
