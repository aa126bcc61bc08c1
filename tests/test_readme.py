"""The README's own code and commands work as written."""

import ast
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_library_example_runs(capsys):
    (code,) = (block for block in blocks("python") if "leave_one_out" in block)
    given = {
        "photos": np.random.default_rng(0).integers(0, 256, (4, 40, 56, 3), np.uint8),
        "instances": np.array([0, 0, 1, 1]),
    }
    exec(compile(code, "README.md", "exec"), given)
    assert given["descriptors"].shape == (4, 1280)
    assert 0 <= float(capsys.readouterr().out) <= 1


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            f"docs/{name}.md"
            for name in (
                *("records", "training", "serving", "evaluation", "descriptors", "describe", "pytorch"),
                *("objects", "distillation", "results", "benchmarks", "reranking", "operations", "export", "index"),
                *("search_app", "beam", "vector_databases", "speed", "scale"),
            )
        ),
    ],
)
def test_commands_name_scripts_and_flags_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"python -m ([\w.]+)((?:\"[^\"\n]*\"|[^\n`|)])*)", text)
    assert found
    for module, arguments in found:
        if module == "pip":
            continue
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.is_file(), f"{page} names {module}"
        source = path.read_text(encoding="utf-8")
        known = (
            set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
            | _settings_flags(source)
            | {"flagfile", "help", "helpfull"}
        )
        for word in shlex.split(arguments, comments=True, posix=True):
            if word.startswith("--"):
                name = word[2:].split("=")[0]
                assert name in known or name.removeprefix("no") in known, f"{page}: {module} has no --{name}"


def _settings_flags(source):
    """Flags of the dataclasses that a script defines flags for, found by its imports: absl's flags are global."""
    homes = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    found = set()
    for name in re.findall(r"define_flags\(((?:\w+\.)?\w+)[,)]", source):
        first, _, rest = name.partition(".")
        kind = pkgutil.resolve_name(f"{homes[first]}.{rest}" if rest else homes[first])
        found |= set(kind.__dataclass_fields__)
    return found


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target
