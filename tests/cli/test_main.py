"""The top of the shell: commands, exit codes, one line for an error."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import types

import pytest

from basin.cli.main import COMMANDS, main
from basin.sampling.chains import DivergenceError


class RunFolderError(ValueError):
    """Stands for the error of the training folder, which main knows by its name."""


def fail_with(monkeypatch, error: BaseException, command: str = "data") -> None:
    """Let ``basin data``, or another command, raise."""
    module = types.ModuleType(f"basin.cli.{command}")

    def run(arguments):
        raise error

    module.run = run
    monkeypatch.setitem(sys.modules, f"basin.cli.{command}", module)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("sigma must be positive,\n got -1"), 2, "sigma must be positive, got -1"),
        (FileNotFoundError("source must exist, got x"), 2, "source must exist, got x"),
        (ImportError("install pyarrow"), 2, "install pyarrow"),
        (RunFolderError("no folder"), 3, "no folder"),
        (FloatingPointError("step 3: loss is nan"), 1, "step 3: loss is nan"),
        (DivergenceError("none of the 4 chains is finite"), 1, "error: none of the 4 chains is f"),
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
        (["explore", "nowhere"], "run folder must exist"),
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


INTERRUPTED_IMPORT = """
import importlib.abc, os, signal, sys

class CtrlC(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
sys.meta_path.insert(0, CtrlC())
from basin.cli.main import main
raise SystemExit(main(["data"]))
"""


def test_ctrl_c_during_imports_is_one_line():
    command = [sys.executable, "-c", INTERRUPTED_IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "basin: error: interrupted\n"


def test_ctrl_c_is_an_exception_again_once_a_command_runs(monkeypatch):
    module = types.ModuleType("basin.cli.data")
    seen = []
    module.run = lambda arguments: seen.append(signal.getsignal(signal.SIGINT)) or 0
    monkeypatch.setitem(sys.modules, "basin.cli.data", module)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        for handler in (signal.default_int_handler, signal.SIG_IGN):
            signal.signal(signal.SIGINT, handler)
            assert main(["data"]) == 0
            assert seen.pop() == handler
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_nothing_slow_is_imported_before_ctrl_c_can_be_answered():
    script = "import sys, basin.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not {"torch", "numpy", "jsonargparse", "argparse"} & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["resume", "r"], ["train", "x", "--out", "r"]])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_run_that_can_go_on_is_named(tmp_path, monkeypatch, capsys, arguments, error):
    monkeypatch.chdir(tmp_path)
    for module in ("resume", "train"):
        fail_with(monkeypatch, error, module)
    main(arguments)
    assert "basin resume" not in capsys.readouterr().err
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").write_text("{}")
    main(arguments)
    assert capsys.readouterr().err.endswith("go on with: basin resume r\n")


def test_a_time_limit_is_heard_where_ctrl_c_is_ignored(monkeypatch):
    """As under ``nohup``, or in the background of a script."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    module = types.ModuleType("basin.cli.data")
    module.run = lambda arguments: signal.raise_signal(signal.SIGTERM)
    monkeypatch.setitem(sys.modules, "basin.cli.data", module)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert main(["data"]) == 130
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
