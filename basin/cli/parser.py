"""The argument parser of every command: jsonargparse, with errors and help for people.

One definition serves code, YAML and shell: options are read from the signatures and docstrings
of the classes and functions they configure.
"""

from __future__ import annotations

import argparse
import json
import re
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

__all__ = ["Parser", "first_sentence"]

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "tuple": "a list like [64,64]",
    "list": "a list like [64,64]",
    "Sequence": "a list like [64,64]",
    "dict": "a mapping",
}


class _Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions and examples; leaves out what only a parser needs."""

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action).replace("``", "")
        text = re.sub(r"type: (?:Literal|Optional|Union)\[.*\](?:, )?", "", text)
        text = re.sub(r"\b(?:Sequence|tuple|list)\[(\w+)[^\]]*\]", r"list of \1", text)
        return re.sub(r"(?:, )?default: (?:null|False)\)", ")", text).replace(" ()", "")

    def _format_action_invocation(self, action: argparse.Action, *rest: Any) -> str:
        shown = super()._format_action_invocation(action, *rest)
        shown = ", ".join(part for part in shown.split(", ") if "+ " not in part)
        return shown.replace(".class ", " ")  # --energy NAME is another way to say it


class Parser(ArgumentParser):
    """An ``ArgumentParser`` whose errors are ``ValueError``: name, rule, value, what to do."""

    def __init__(self, command: str, usage: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"basin {command}",
            usage=f"basin {command} {usage}",
            description=description,
            epilog=f"examples:\n{examples.rstrip()}",
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=True,
        )

    def parse(self, arguments: list[str]) -> dict[str, Any]:
        """The settings as a nested dictionary of plain values."""
        return self.parse_args(self._with_lists(arguments)).as_dict()

    def parse_and_build(self, arguments: list[str]) -> dict[str, Any]:
        """The same, with parameters that are objects themselves (a kernel, a schedule) built."""
        parsed: Any = self.parse_args(self._with_lists(arguments))
        return self.instantiate(parsed).as_dict()  # type: ignore[union-attr]

    def _with_lists(self, arguments: list[str]) -> list[str]:
        """``64,64`` as ``[64,64]`` and ``a,b`` as ``["a","b"]`` where a list is wanted."""
        types = {
            option: str(getattr(action, "_typehint", ""))
            for action in self._actions
            for option in action.option_strings
        }
        words: list[str] = []
        option = ""
        for word in arguments:
            name, equals, value = word.partition("=")
            if equals and name in types:
                words.append(f"{name}={_as_list(value, types[name])}")
            else:
                words.append(_as_list(word, types.get(option, "")))
            option = word
        return words

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        """Raise the one sentence that says what is wrong, instead of printing the usage."""
        del ex
        raise ValueError(self._sentence(message))

    def _sentence(self, message: str) -> str:
        """jsonargparse's paragraphs as one sentence: the option, the rule, the value."""
        unknown = re.search(r"[Uu]nrecognized arguments: (\S+)", message)
        if unknown:
            return self._unknown(unknown[1].split("=")[0])
        key = re.search(r'Parser key "([^"]+)"', message)
        value = re.search(r"(?:Given value|Got value|import path string): (.*)", message)
        rules = re.findall(
            r"Expected (?:a )?(<class '[\w.]+'>|typing\.Literal\[.*?\]|tuple.*?)[.\n]",
            message + "\n",
        )
        if key and value and rules:
            rule = " or ".join(dict.fromkeys(map(_in_words, rules)))
            got = value[1].strip() or "nothing"
            return f"--{key[1]} must be {rule}, got {got}; see {self.prog} --help"
        if key:
            return f"--{key[1]}: {message[key.end() :].strip(': ')}; see {self.prog} --help"
        return f"{message}; see {self.prog} --help"

    def _unknown(self, option: str) -> str:
        if not option.startswith("-"):
            return f"{option!r} is one word too many; see {self.prog} --help"
        known = [name for action in self._actions for name in action.option_strings]
        close = get_close_matches(option, known, n=1)
        mend = f"did you mean {close[0]}?" if close else f"see {self.prog} --help"
        return f"option must be known, got {option}; {mend}"


def _in_words(rule: str) -> str:
    """``<class 'int'>`` as "a whole number", ``typing.Literal['a', 'b']`` as "'a' or 'b'"."""
    if rule.startswith("<class"):
        name = rule.split("'")[1].rpartition(".")[2]
        return _WORDS.get(name, name)
    return rule.partition("[")[2].rstrip("]").replace(", ", " or ") or f"a {rule}"


def _as_list(value: str, kind: str) -> str:
    is_list = re.search(r"\b(?:Sequence|[Tt]uple|[Ll]ist)\[(\w+)", kind)
    is_option = value.startswith("-") and not re.match(r"-[\d.]", value)  # -4,3 is a list
    if not is_list or is_option or value[:1] in ("[", "") or value in ("null", "None"):
        return value
    return json.dumps(value.split(",")) if is_list[1] == "str" else f"[{value}]"


def first_sentence(thing: object) -> str:
    """The first line of a docstring, without its full stop.

    >>> first_sentence(int)[:11]
    'int([x]) ->'
    """
    lines = (getattr(thing, "__doc__", None) or "").strip().splitlines()
    return lines[0].rstrip(".").replace("``", "") if lines else ""
