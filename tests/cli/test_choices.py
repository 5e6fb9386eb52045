"""Settings from presets, files and the command line, and how they merge."""

from __future__ import annotations

import sys

import pytest

from basin.cli.choices import FAMILIES, as_arguments, read_settings
from basin.core.types import Kernel, Objective


def test_members_are_found_not_listed():
    assert "DenoisingScoreMatching" in FAMILIES["objective"].members()
    assert "MLP" in FAMILIES["energy"].members()
    assert "MALA" in FAMILIES["sampler"].members()
    for name, base in (("objective", Objective), ("sampler", Kernel)):
        for kind in FAMILIES[name].members().values():
            assert issubclass(kind, base)


def test_a_misspelt_class_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"--objective must be one of .* did you mean DualScore"):
        FAMILIES["objective"].find("DualScoreMatchin")


def test_a_class_of_the_user_is_found_by_its_path():
    assert FAMILIES["energy"].find("torch.nn.Linear").__name__ == "Linear"
    with pytest.raises(ValueError, match=r"got 'torch\.nn\.Nothing'"):
        FAMILIES["energy"].find("torch.nn.Nothing")


def test_the_command_line_wins_over_a_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: rings\nnum_steps: 5\nobjective: {class: DenoisingScoreMatching}\n")
    settings, left = read_settings(["--config", str(file), "--num_steps", "7"])
    words = as_arguments(settings) + left
    assert words[0] == "rings"
    assert words.index("--num_steps=5") < words.index("--num_steps")


def test_another_class_drops_the_parameters_of_the_first(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("energy: {class: MLP, activation: softplus}\n")
    same, _ = read_settings([f"--config={file}", "--energy=MLP"])
    other, _ = read_settings([f"--config={file}", "--energy", "ResNet"])
    assert same == {"energy": {"class": "MLP", "activation": "softplus"}}
    assert other == {"energy": {"class": "ResNet"}}


def test_the_course_preset_is_the_lessons_recipe():
    settings, _ = read_settings(["--preset", "course"])
    assert settings["energy"] == {"class": "MLP", "hidden": [128, 128], "activation": "softplus"}
    assert settings["objective"]["sigma"] == 0.1
    assert settings["objective"]["posterior_mean"] is False
    assert (settings["num_steps"], settings["batch_size"]) == (50_000, 100)
    assert settings["ema_decay"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold 'name: value' lines"),
        ("a: [1\n", "must be a YAML file"),
        ("energy: 3\n", "energy must be a class name or a mapping"),
        ("a: !!python/object/apply:os.system ['true']\n", "must be a YAML file"),
    ],
)
def test_a_bad_file_is_one_error(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(["--config", str(file)])


def test_a_missing_file_or_preset_is_one_error():
    with pytest.raises(ValueError, match="which is not there"):
        read_settings(["--config", "nowhere.yaml"])
    with pytest.raises(ValueError, match="--preset must be one of course"):
        read_settings(["--preset", "curse"])


def test_a_module_of_the_user_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_networks.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(ValueError, match=r"got 'broken_networks.Net': ZeroDivisionError"):
        FAMILIES["energy"].find("broken_networks.Net")
