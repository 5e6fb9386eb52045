"""The shell: ``basin COMMAND ...``. Finds the command, runs it, turns errors into one line.

    exit code   meaning
    0           done
    1           the run failed: numbers diverged, the disk is full, or a fault of ours
    2           usage or bad input: an option, a file or a value that cannot be used
    3           a run folder that is missing, truncated or not Basin's
    130         interrupted by Ctrl-C; what was saved can be resumed

Each command is one module beside this one, imported only when it is asked for, so that
``basin --help`` and ``basin --version`` do not wait for torch. What this file imports itself comes
before anyone can answer Ctrl-C in words: a few milliseconds' worth.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn, TextIO, cast

from basin.version import __version__

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "learn a model from data; writes a run folder and its report",
    "resume": "go on with a run that was stopped",
    "sample": "draw from a trained model",
    "evaluate": "measure a trained model again, as a table or as JSON",
    "score": "log density and anomaly score of every row of a table",
    "report": "write the report page of a run again, or one that compares runs",
    "explore": "walk on a model's energy landscape, in a page of your browser",
    "data": "list the data sources that have a name",
}

HELP = f"""usage: basin COMMAND ...

Basin trains energy-based models, draws from them, and says how good they are:
p(x) = exp(-E(x)) / Z, where a low energy E means a likely x.

commands:
{chr(10).join(f"  {name:10}{summary}" for name, summary in COMMANDS.items())}

examples:
  basin train checkerboard --out runs/board      the lesson's density; about a minute
  basin train table.csv --out runs/table         a table of your own
  basin sample runs/board --num_samples 1000 --out draws.csv
  basin evaluate runs/board --json

options:
  -h, --help   this page; after a command, that command's options
  --version    the versions of Basin and Python
  --debug      after a command: show the traceback of an error

exit codes: 0 done, 1 the run failed (diverged, disk full), 2 usage or bad input,
3 run folder missing or damaged, 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    basin ...
    0
    """
    if arguments is None:
        sys.argv[0] = "basin"  # the run folder records the command as one would type it
        _make_streams_safe()
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: not an error, and nothing to print to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        if debug:
            raise
        if arguments is None:  # what is left is one line; another Ctrl-C would tear it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return _report(error, given)


def _run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if given[0] == "--version":
        print(f"basin {__version__} (Python {sys.version.split()[0]})")
        return 0
    command, rest = given[0], given[1:]
    if command not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(command, COMMANDS, n=1)
        mend = f"did you mean {close[0]}?" if close else f"one of: {', '.join(COMMANDS)}"
        raise ValueError(f"command must be known, got {command!r}; {mend}")
    # `kill` and a scheduler's time limit end as Ctrl-C does: with a checkpoint.
    signal.signal(signal.SIGTERM, _interrupt)
    return _import(command).run(rest)


def _import(command: str) -> ModuleType:
    """The module of a command, and torch with it: the first second of every command.

    Ctrl-C meanwhile leaves at once, as there is nothing to save: raised in the midst of an import,
    it would come out of callbacks that print a traceback and go on.
    """
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _leave)
    try:
        return importlib.import_module(f"basin.cli.{command}")
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: Any) -> NoReturn:
    del number, frame
    with suppress(OSError):
        os.write(2, b"basin: error: interrupted\n")
    os._exit(130)


def _interrupt(number: int, frame: Any) -> None:
    """As Ctrl-C, also where that is ignored (``nohup``, a job in the background of a script)."""
    del number, frame
    if not callable(signal.getsignal(signal.SIGINT)):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


class _Unheard:
    """Standard error whose reader may go away (``2>&1 | head``): the run goes on without it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return len(text)


def _make_streams_safe() -> None:
    """No output ends a run: closed streams, a reader that left, letters outside the locale."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (2>&-)
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr = cast(TextIO, _Unheard(sys.stderr))


def _report(error: BaseException, given: list[str]) -> int:
    """Print the one line and choose the exit code."""
    if isinstance(error, KeyboardInterrupt):
        message, code = str(error) or f"interrupted{_go_on(given, '; ')}", 130
    elif type(error).__name__ == "RunFolderError":
        message, code = str(error), 3
    elif isinstance(error, OSError) and _is_full_disk(error):
        where = f"{error.filename} could not be written: " if error.filename else ""
        said = error.strerror or ""
        message = said if "disk is full" in said else f"{where}the disk is full; free some space"
        message += _go_on(given, ", then ") or ", then repeat the command"
        code = 1
    elif isinstance(error, ArithmeticError) or type(error).__name__ == "DivergenceError":
        message, code = str(error), 1
    elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        message, code = f"memory is not enough: {error}; ask for fewer rows or a smaller batch", 1
    elif isinstance(error, OSError) and error.filename and error.strerror:
        message, code = f"{error.filename} cannot be used: {error.strerror}; give another path", 2
    elif isinstance(error, OSError | ValueError) or _is_missing_extra(error):
        message, code = str(error), 2
    else:
        message = f"{type(error).__name__}: {error} (a fault of Basin; --debug shows where)"
        code = 1
    print(f"basin: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _go_on(given: list[str], joint: str) -> str:
    """How to go on with the run of this command; nothing where there is none to go on with."""
    if given[:1] == ["resume"] and len(given) > 1:
        folder = given[1]
    elif given[:1] == ["train"] and "--out" in given[:-1]:
        folder = given[given.index("--out") + 1]
    else:
        folder = next((w.removeprefix("--out=") for w in given if w.startswith("--out=")), "")
    is_run = given[:1] in (["train"], ["resume"]) and folder and _has_content(folder)
    return f"{joint}go on with: basin resume {folder}" if is_run else ""


def _has_content(folder: str) -> bool:
    path = os.path.join(folder, "config.json")
    return os.path.isfile(path) and os.path.getsize(path) > 0


def _is_missing_extra(error: BaseException) -> bool:
    """A package of the user's choice is not installed; a broken import of our own is a fault."""
    return isinstance(error, ImportError) and not (error.name or "").startswith("basin")


def _is_full_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


if __name__ == "__main__":
    raise SystemExit(main())
