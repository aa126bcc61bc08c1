"""YAML, as much of it as manifests need: block style, every text quoted that could be read as something else."""

import json
import re

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS_WITH_A_MEANING = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

Value = dict | list | str | int | bool


def to_yaml(value: Value) -> str:
    """Returns a value of dictionaries, lists, texts and whole numbers as a YAML document.

    Texts of several lines become literal blocks; others are written plain where that is safe, else in double quotes,
    which YAML reads as JSON does.
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Value) -> list[str]:
    if isinstance(value, dict):
        return [line for key, each in value.items() for line in _entry(f"{_scalar(key)}:", each, nested="  ")]
    if isinstance(value, list):
        return [line for each in value for line in _item(each)]
    return [_scalar(value)]


def _entry(head: str, value: Value, nested: str) -> list[str]:
    if isinstance(value, dict | list) and not value:
        return [f"{head} {{}}" if isinstance(value, dict) else f"{head} []"]
    if isinstance(value, dict | list):
        return [head, *(nested + line for line in _lines(value))]
    if isinstance(value, str) and value.endswith("\n") and _is_block(value):
        return [f"{head} |", *(f"  {line}" if line else "" for line in value[:-1].split("\n"))]
    return [f"{head} {_scalar(value)}"]


def _item(value: Value) -> list[str]:
    if not isinstance(value, dict | list) or not value:
        return _entry("-", value, nested="")
    first, *rest = _lines(value)
    return [f"- {first}", *(f"  {line}" for line in rest)]


def _is_block(text: str) -> bool:
    """Whether a text can stand as it is: of printable characters, and its first line not indented."""
    lines = text[:-1].split("\n")
    return all(line.isprintable() and line == line.rstrip() for line in lines) and lines[0][:1].strip() != ""


def _scalar(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_WITH_A_MEANING:
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())
