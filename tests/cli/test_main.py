"""The top of the shell: commands, exit codes, one line for an error."""

from __future__ import annotations

import errno
import subprocess
import sys
import types

import pytest

from basin.cli.main import COMMANDS, main


class RunFolderError(ValueError):
    """Stands for the error of the training folder, which main knows by its name."""


def fail_with(monkeypatch, error: BaseException) -> None:
    """Let ``basin data`` raise."""
    module = types.ModuleType("basin.cli.data")

    def run(arguments):
        raise error

    module.run = run
    monkeypatch.setitem(sys.modules, "basin.cli.data", module)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("sigma must be positive,\n got -1"), 2, "sigma must be positive, got -1"),
        (FileNotFoundError("source must exist, got x"), 2, "source must exist, got x"),
        (ImportError("install pyarrow"), 2, "install pyarrow"),
        (RunFolderError("no folder"), 3, "no folder"),
        (FloatingPointError("step 3: loss is nan"), 1, "step 3: loss is nan"),
        (OSError(errno.ENOSPC, "the disk is full"), 1, "the disk is full"),
        (KeyboardInterrupt("go on with: basin resume x"), 130, "go on with: basin resume x"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (AttributeError("oops"), 1, "AttributeError: oops (a fault of Basin"),
    ],
)
def test_each_error_is_one_line_and_an_exit_code(monkeypatch, capsys, error, code, message):
    fail_with(monkeypatch, error)
    assert main(["data"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("basin: error: ")
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_debug_shows_the_traceback(monkeypatch):
    fail_with(monkeypatch, ValueError("inside"))
    with pytest.raises(ValueError, match="inside"):
        main(["data", "--debug"])


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: basin {command}" in shown
    assert "examples:" in shown
    assert f"basin {command} " in shown.split("examples:")[1]


def test_the_first_page_lists_every_command_and_exit_code(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)
    assert "130" in shown


def test_data_lists_every_source(capsys):
    assert main(["data"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("checkerboard", "two_blobs", "digits", "wine"))


def test_data_describes_one_source(capsys):
    assert main(["data", "iris"]) == 0
    assert "petal length" in capsys.readouterr().out
    assert main(["data", "no/such.csv"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "nowhere"], "run folder must exist"),
        (["resume", "nowhere"], "run folder must exist"),
        (["evaluate", "nowhere"], "run folder must exist"),
        (["report", "nowhere"], "run folder must exist"),
        (["score", "nowhere", "x.csv"], "run folder must exist"),
    ],
)
def test_a_missing_run_folder_is_exit_code_3(arguments, message, capsys):
    assert main(arguments) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), 1, "x.csv could not be"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "free some space"),
        (OSError(errno.EROFS, "Read-only file system", "ro/x"), 2, "ro/x cannot be used: Read-"),
        (MemoryError(), 1, "memory is not enough"),
        (RuntimeError("[enforce fail] can't allocate memory: 9"), 1, "memory is not enough"),
    ],
)
def test_errors_of_the_system_say_what_to_do(monkeypatch, capsys, error, code, message):
    fail_with(monkeypatch, error)
    assert main(["data"]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "fault of Basin" not in shown


def test_closed_streams_do_not_stop_a_command():
    command = f'"{sys.executable}" -m basin'
    assert subprocess.run(f"{command} data >&- 2>&-", shell=True).returncode == 0
    assert subprocess.run(f"{command} nosuch >&- 2>&-", shell=True).returncode == 2
