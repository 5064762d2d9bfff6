import base64
import json

import numpy as np
import pytest

from serl_core.cli.report import write_report
from serl_core.cli.report_vision import classifier_line, encoder_of, vision_sections
from serl_core.data.episode_file import save_episode
from serl_core.data.frames import compress
from serl_core.image_config import FrameFormat
from serl_core.testing.episodes import make_episode

COUNTS = {"true_positive": 11, "false_positive": 2, "false_negative": 3, "true_negative": 84}
REPORT = {
    "threshold": 0.8,
    "frames": 2,
    "single": {"accuracy": {"rate": 0.95}},
    "in_a_row": {"false_positive": {"rate": 0.0123}, "false_negative": {"rate": 0.2}},
    "confusion": {"single": COUNTS, "in_a_row": {}},
}
PICTURE = b"\x89PNG of the reliability"


def save_demos(run, *, encoder="small-1", form=FrameFormat.PNG, name="wrist"):
    """Save a demonstration of 4 steps, its pictures brighter with each."""
    shown = [compress({name: np.full((16, 16, 3), 20 * i, np.uint8)}, form) for i in range(5)]
    steps = [
        step._replace(
            observation=step.observation._replace(frames=shown[i]),
            next_observation=step.next_observation._replace(frames=shown[i + 1]),
        )
        for i, step in enumerate(make_episode(steps=4))
    ]
    digest = f"cafe+{encoder}" if encoder else "cafe"
    save_episode(run / "demos" / "demonstration-0000.safetensors", steps, task_digest=digest)
    return [base64.b64encode(frames[name].tobytes()).decode() for frames in shown]


def save_classifier_report(run):
    (run / "classifier").mkdir()
    (run / "classifier" / "report.json").write_text(json.dumps(REPORT))
    (run / "classifier" / "reliability.png").write_bytes(PICTURE)


def test_the_encoder_stands_in_the_demonstrations(tmp_path):
    save_demos(tmp_path)
    assert encoder_of(tmp_path / "demos") == "small-1"
    save_demos(tmp_path / "state", encoder="")
    assert encoder_of(tmp_path / "state" / "demos") == ""


@pytest.mark.parametrize("run", ["none", "empty", "state"])
def test_a_run_without_images_has_no_such_section(tmp_path, run):
    """An empty folder of demonstrations made the whole report fail."""
    if run == "empty":
        (tmp_path / "demos").mkdir()
    if run == "state":
        save_demos(tmp_path, encoder="")
    assert vision_sections(tmp_path, {}) == []


@pytest.mark.parametrize(("form", "kind"), [(FrameFormat.PNG, "png"), (FrameFormat.JPEG, "jpeg")])
def test_a_demonstration_is_shown_at_its_start_half_way_and_at_its_end(tmp_path, form, kind):
    shown = save_demos(tmp_path, form=form)
    page = "".join(vision_sections(tmp_path, {}))
    assert "<code>small-1</code>" in page
    assert page.count("<img") == 3
    places = [page.index(f'src="data:image/{kind};base64,{shown[i]}"') for i in (0, 2, 4)]
    assert places == sorted(places)
    assert "reward classifier" not in page


def test_names_are_text_and_no_markup(tmp_path):
    save_demos(tmp_path, encoder="<b>", name="<i>")
    page = "".join(vision_sections(tmp_path, {}))
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;i&gt;" in page


def test_the_classifiers_line_has_its_validation_rates(tmp_path):
    save_classifier_report(tmp_path)
    line = classifier_line(tmp_path / "classifier")
    assert "accuracy 95.0 % frame by frame" in line
    assert "false positives 1.2 % and false negatives 20.0 % with 2 frames in a row" in line


def test_a_rate_of_nothing_is_none(tmp_path):
    """A validation without such frames made the line, and the whole report, fail."""
    (tmp_path / "report.json").write_text(
        json.dumps(REPORT | {"in_a_row": {"false_positive": {"rate": 0.0}, "false_negative": {"rate": None}}})
    )
    assert "false positives 0.0 % and false negatives none with" in classifier_line(tmp_path)


def rows(page):
    """Return the numbers of each row of the table, by its title."""
    lines = [row for row in page.split("<tr>")[1:] if "<td>" in row]
    return {
        line.split("<td>")[1].split("</td>")[0]: [
            int(cell.split("</td>")[0]) for cell in line.split('<td class="n">')[1:]
        ]
        for line in lines
    }


def test_the_confusion_matrices_are_those_of_validation_training_and_evaluation(tmp_path):
    """A restart of the actor took what was counted before out of the report."""
    save_demos(tmp_path)
    save_classifier_report(tmp_path)
    early, late = ({f"classifier_{name}": times * count for name, count in COUNTS.items()} for times in (1, 2))
    first, second = {"kind": "actor", "session": "a"}, {"kind": "actor", "session": "b"}  # restarted: counts from 0
    records = [first | {"env_steps": 5}, first | early, first | late, second | {"env_steps": 1}, second | early]
    (tmp_path / "actor.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page = "".join(vision_sections(tmp_path, {"verdicts": {name: 3 * count for name, count in COUNTS.items()}}))
    assert base64.b64encode(PICTURE).decode() in page
    assert rows(page) == {
        "Validation of the classifier": [11, 2, 3, 84],
        "Training": [33, 6, 9, 252],
        "Evaluation of the policy": [33, 6, 9, 252],
    }


def test_what_was_never_judged_has_no_row(tmp_path):
    save_demos(tmp_path)
    save_classifier_report(tmp_path)
    (tmp_path / "actor.jsonl").write_text(json.dumps({"kind": "actor", "env_steps": 5}) + "\n")
    assert list(rows("".join(vision_sections(tmp_path, {"verdicts": {}})))) == ["Validation of the classifier"]


def test_the_sections_stand_in_the_report(tmp_path):
    save_demos(tmp_path)
    save_classifier_report(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "eval.json").write_text(json.dumps({"successes": 1, "verdicts": COUNTS, "trials_detail": []}))
    page = write_report(tmp_path).read_text()
    assert "What the policy sees" in page
    assert "Evaluation of the policy" in page
    assert "{&#x27;true_positive" not in page  # the counts are no row of the summary
