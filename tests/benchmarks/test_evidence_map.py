"""A study with a grid, and its map."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence import maps, rows, studies, tables
from evidence.figures import draw_lines, draw_map
from made_up_study import row

from fedloom.errors import BadInput

STUDY = """
preset: smoke
main: full
others: {evaluation: {every: 1000}}
arms: {full: {}, less: {settings.gamma: 0.5, data.alpha: 3}}
grid:
  S: [{value: 10, set: {settings.samples: 10}}, {value: 20, set: {settings: {samples: 20}}}]
  alpha: [{value: 0.1, set: {data.alpha: 0.1}}, {value: 5, set: {data.alpha: 5}}]
  clients: [{value: weak, set: {clients.warm_steps: 1}}, {value: strong, set: {clients.warm_steps: 9}}]
map: {reference: less, scores: [t2i_accuracy, clip_score]}
scores: {t2i_accuracy: G, clip_score: CS}
"""


@pytest.fixture
def study(tmp_path: Path) -> studies.Study:
    (tmp_path / "grid.yaml").write_text(STUDY)
    return studies.load(tmp_path / "grid.yaml")


def test_every_arm_is_in_every_cell(study: studies.Study) -> None:
    assert len(study.arms) == 2 * 8
    cell = "S=20 alpha=0.1 clients=weak"
    assert study.settings(f"full @ {cell}") == {
        "settings.samples": 20,
        "data.alpha": 0.1,
        "clients.warm_steps": 1,
    }
    less = study.settings(f"less @ {cell}")
    assert (less["evaluation.every"], less["data.alpha"]) == (1000, 3)  # an arm's own settings win
    assert studies.chosen_arms(study, cell) == [f"full @ {cell}", f"less @ {cell}"]
    assert len(studies.chosen_arms(study, "less")) == 8
    assert len(studies.chosen_arms(study, "")) == 16
    with pytest.raises(BadInput, match="unknown arm"):
        studies.chosen_arms(study, "more")


@pytest.mark.drawn
def test_the_gain_of_each_cell(study: studies.Study, tmp_path: Path) -> None:
    for arm in study.arms:
        if "S=10" in arm:
            continue  # not run yet
        for seed in range(4):
            gain = 0.1 + 0.01 * seed if arm == "full @ S=20 alpha=0.1 clients=weak" else 0.001 * (-1) ** seed
            value = 0.5 + 0.05 * seed + gain * arm.startswith("full")
            made = {"study": "grid", "arm": arm, "seed": str(seed), "settings": study.settings_text(arm)}
            kept = {**row(), **made, "t2i_accuracy": f"{value:.6f}", "clip_score": "0.5", "commit": "c"}
            rows.append(rows.file_of("grid", tmp_path), kept)
    found = tables.kept(study, tmp_path)
    gains = maps.gains(found)
    assert gains["t2i_accuracy", "S=20 alpha=0.1 clients=weak"]["mean"] == pytest.approx(0.115)
    assert gains["t2i_accuracy", "S=20 alpha=0.1 clients=weak"]["verdict"] == "above"
    assert gains["t2i_accuracy", "S=20 alpha=5 clients=weak"]["verdict"] == "not shown"
    assert gains["t2i_accuracy", "S=10 alpha=5 clients=weak"]["n"] == 0
    assert gains["clip_score", "S=20 alpha=0.1 clients=weak"]["mean"] == 0
    text = tables.text(found, "map")
    assert text.count("\n| S=20") == 4
    assert "S=10" not in text
    assert "| S=20 alpha=0.1 clients=weak | 4 | **+0.115 [" in text
    levels = maps.by_level(found)
    assert levels["t2i_accuracy", "S=20"]["n"] == 4
    assert levels["t2i_accuracy", "S=20"]["mean"] == pytest.approx(0.115 / 4, abs=1e-3)
    assert levels["t2i_accuracy", ""]["n"] == 0  # cells are missing
    assert "| S=20 | 4 | " in tables.text(found, "map-levels")
    said = draw_map(found, tmp_path / "images" / "map.png")
    assert "4 of 8 cells" in said
    assert (tmp_path / "images" / "map.png").stat().st_size > 1000


def test_a_map_of_no_rows_is_drawn(study: studies.Study, tmp_path: Path) -> None:
    assert "0 of 8 cells" in draw_map(tables.kept(study, tmp_path / "none"), tmp_path / "map.png")


@pytest.mark.drawn
def test_scores_along_an_axis(tmp_path: Path) -> None:
    (tmp_path / "lines.yaml").write_text(
        "main: a\narms: {a: {}}\nscores: {t2i_accuracy: G}\nlines: {t2i_accuracy: G, kept_share_mean: kept}\n"
        "grid:\n  alpha: [{value: 0.1, set: {data.alpha: 0.1}}, {value: 5, set: {data.alpha: 5}}]\n"
        "  gamma: [{value: 0, set: {settings.gamma: 0}}, {value: 0.5, set: {settings.gamma: 0.5}}]\n"
    )
    study = studies.load(tmp_path / "lines.yaml")
    for arm in study.arms:
        made = {"study": "lines", "arm": arm, "settings": study.settings_text(arm), "commit": "c"}
        for seed in range(2 if "alpha=5" in arm else 0):
            kept = {**row(), **made, "seed": str(seed), "t2i_accuracy": f"0.{seed}", "kept_share_mean": "0.5"}
            rows.append(rows.file_of("lines", tmp_path), kept)
    said = draw_lines(tables.kept(study, tmp_path), tmp_path / "lines.png")
    assert "4 of 8 points" in said
    assert (tmp_path / "lines.png").stat().st_size > 1000


def test_what_is_no_grid(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("main: a\narms: {a: {}}\ngrid: {S: [1, 2]}\n")
    with pytest.raises(BadInput, match="grid: S = "):
        studies.load(path)
    path.write_text("main: b\narms: {a: {}}\ngrid: {S: [{value: 1, set: {settings.samples: 1}}]}\n")
    with pytest.raises(BadInput, match="unknown arm 'b'"):
        studies.load(path)
    path.write_text("main: a\narms: {a: {}}\n")
    with pytest.raises(BadInput, match="has no map"):
        draw_map(tables.kept(studies.load(path), tmp_path), tmp_path / "map.png")
    with pytest.raises(BadInput, match="has no figure"):
        draw_lines(tables.kept(studies.load(path), tmp_path), tmp_path / "lines.png")
    path.write_text("main: a\narms: {a: {}}\nlines: {size: S}\n")
    with pytest.raises(BadInput, match="lines: unknown score 'size'"):
        studies.load(path)
    path.write_text("main: a\narms: {a: {}, b: {}}\nmap: {reference: b, scores: [size]}\n")
    with pytest.raises(BadInput, match="map: unknown score 'size'"):
        studies.load(path)
