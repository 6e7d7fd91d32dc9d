"""Tables of kept rows, and what README and docs say of them: tables and blocks of evidence/, and study."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from evidence import blocks, rows, studies, tables
from made_up_study import Script, row

from fedloom.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def lines_of(said: str) -> dict[str, list[str]]:
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|"))
    return {first: rest for first, *rest in cells}


def test_tables(script: Script, kept: Path, tmp_path: Path) -> None:
    def table(*words: object) -> str:
        return script("study", "table", tmp_path / "tiny.yaml", *words, "--results", kept)

    said = table("scores")
    assert lines_of(said)["full"] == ["", "0.580 ± 0.016", "0.480 ± 0.016", "2.000 ± 0.000"]
    assert lines_of(said)["less"][0] == "no client"
    assert lines_of(said)["alone"] == ["oracle bound", "0.520 ± 0.016", "", "2.000 ± 0.000"]
    assert lines_of(said)["full (before)"][1] == "0.520 ± 0.016"
    assert "5 seeds (0-4) on " in said
    assert "Not in it: 4 rows on Other" in said
    found = lines_of(table("differences-image_accuracy"))
    assert found["less"][:3] == ["no client", "5", "+0.040 [+0.040, +0.040]"]
    assert found["full (before)"][-1] == "above (p < 0.001)"
    assert lines_of(table("rounds"))["2"][0] == "0.580"
    assert lines_of(table("labels"))["voted accuracy"] == ["0.620 ± 0.016", "0.620 ± 0.016"]
    assert lines_of(table("costs"))["full"][:3] == ["10", "22", "9"]
    assert lines_of(table("short"))["**Full**"] == ["0.580 ± 0.016"]
    assert "## claims" in table()
    assert "unknown table 'scroes'" in table("scroes")
    assert "nan" not in table()
    assert "No rows are kept yet" in table("scores", "--set", "rounds=9")
    assert "3 seeds (2-4) on " in table("scores", "--seeds", "2-4")
    assert "'x' is not a seed" in table("scores", "--seeds", "x")


def test_claims(study: studies.Study, tmp_path: Path) -> None:
    """Shown; shown but smaller than claimed; of two scores; the other way round."""
    found = []
    for seed in range(6):
        wobble = seed * 7 % 5 / 1000
        full = {"image_accuracy": 0.8 + wobble, "t2i_accuracy": 0.6 + wobble, "image_accuracy_before": 0.5 + wobble}
        full |= {"voted_accuracy_round1": 0.7, "prompt_accuracy_round1": 0.5 - wobble}
        for arm, scores in (
            ("full", full),
            ("less", {"image_accuracy": 0.6 + seed / 1000, "t2i_accuracy": 0.5 + seed / 1000}),
            ("alone", {"image_accuracy": 0.4 + seed / 1000}),
        ):
            texts = {key: str(value) for key, value in scores.items()}
            found.append(row(study="tiny", arm=arm, seed=str(seed), settings=study.settings_text(arm), **texts))
    for each in found:
        rows.append(tmp_path / "tiny.csv", each)
    said = lines_of(tables.text(tables.kept(study, tmp_path), "claims"))
    assert [line[-1] for line in said.values()][2:] == ["**shown**", "shown, but smaller", "**shown**", "reversed"]
    assert "full above less in image_accuracy, by 0.05 or more" in said
    assert "full above full's prompt_accuracy_round1 in voted_accuracy_round1" in said


def test_a_margin_is_taken_off_the_reference(study: studies.Study, kept: Path) -> None:
    """An arm that is below by so much is no worse by twice that, and worse by half of it."""
    full, less = (tables.kept(study, kept).values(arm, "image_accuracy") for arm in ("full", "less"))
    gap = sum(full[seed] - less[seed] for seed in full) / len(full)
    margins = (2 * gap, gap / 2)
    claims = [studies.Claim(arm="less", reference="full", score="image_accuracy", margin=m) for m in margins]
    found = tables.kept(study.model_copy(update={"claims": tuple(claims)}), kept)
    assert [d["verdict"] for _, d in tables.claimed(found)] == ["above", "below"]
    assert claims[0].text == f"less above full less {2 * gap:g} in image_accuracy"


def test_holm_runs_over_the_lines_of_a_table(study: studies.Study, kept: Path) -> None:
    found = tables.tested(tables.kept(study, kept), "image_accuracy")
    assert list(found) == ["full (before)", "less", "alone"]
    smallest = min(found.values(), key=lambda d: d["p"])
    assert smallest["p_holm"] == pytest.approx(3 * smallest["p"])


PAGE = """Text.
<!-- rows: tiny scores -->
old
<!-- end rows -->
Mean <!-- row: tiny, full, image_accuracy, mean -->?<!-- end -->,
<!-- row: tiny, less, image_accuracy, verdict --><!-- end -->,
<!-- row: tiny, less, image_accuracy, claim --><!-- end -->,
<!-- row: tiny, full (before), image_accuracy, spread -->?<!-- end -->,
<!-- row: tiny, alone, t2i_accuracy, mean --><!-- end -->.
<!-- rows: tiny short -->
<!-- end rows -->
<!-- rows: tiny short 1,2-3 -->
<!-- end rows -->
End.
"""


def test_pages_are_made_of_rows(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert blocks.outdated([page], kept) == [page]
    assert page.read_text() == PAGE
    assert blocks.outdated([page], kept, write=True) == [page]
    text = page.read_text()
    assert "| full |  | 0.580 ± 0.016 |" in text
    assert "mean -->0.580<!-- end -->," in text
    assert "verdict -->above (p < 0.001)<!-- end -->," in text
    assert "claim -->above (p < 0.001)<!-- end -->," in text
    assert "spread -->0.520 ± 0.016<!-- end -->" in text
    assert "t2i_accuracy, mean -->–<!-- end -->." in text
    assert text.endswith("<!-- end rows -->\nEnd.\n")
    assert text.count("5 seeds (0-4) on ") == 2
    assert text.count("3 seeds (1-3) on ") == 1
    assert blocks.outdated([page], kept) == []
    assert blocks.renewed(PAGE, tmp_path / "empty") == PAGE  # no rows: as it is
    for wrong, said in (
        ("<!-- rows: tiny scroes -->\n<!-- end rows -->", "unknown table 'scroes'"),
        ("<!-- rows: tiny scores -->\n", "not closed"),
        ("<!-- row: tiny, full, mean -->?<!-- end -->", "expected STUDY, ARM, SCORE, WHAT"),
        ("<!-- row: tiny, full, image_accuracy, mode -->?<!-- end -->", "unknown figure 'mode'"),
        (
            "<!-- row: tiny, alone, image_accuracy, claim -->?<!-- end -->",
            "tiny claims nothing of full and alone in image_accuracy",
        ),
        ("<!-- row: tiny, ful, image_accuracy, mean -->?<!-- end -->", "unknown arm 'ful'"),
        ("<!-- rows: tinny scores -->\n<!-- end rows -->", "unknown study 'tinny'"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            blocks.renewed(wrong, kept)


def test_readme_and_docs_are_what_the_rows_give() -> None:
    """`python benchmarks/study.py docs` brings them up to date."""
    assert [str(path.relative_to(ROOT)) for path in blocks.outdated(blocks.pages())] == []
