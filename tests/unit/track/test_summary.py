"""The MLflow run that sums up several: figures, files and folders."""

from __future__ import annotations

from pathlib import Path

from metadist.track import client, record_summary


def test_folders_are_artifacts_too_and_a_second_time_replaces(uri: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "plane.svg").write_text("<svg/>")
    page = tmp_path / "report.html"
    runs = set()
    for text in ("one", "two"):
        page.write_text(text)
        runs.add(
            record_summary(
                uri,
                "other",
                "s",
                key="search s",
                tags={"search": "s"},
                metrics={"best/test": 0.5},
                files=[page, figures],
            )
        )
    (run_id,) = runs
    mlflow = client.connect(uri)
    assert [a.path for a in mlflow.list_artifacts(run_id)] == ["figures", "report.html"]
    assert [a.path for a in mlflow.list_artifacts(run_id, "figures")] == ["figures/plane.svg"]
    there = Path(mlflow.download_artifacts(run_id, "report.html"))
    assert there.read_text() == "two"
