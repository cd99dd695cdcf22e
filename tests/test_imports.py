"""The rooms of the house: who may import whom, and what must stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "nmt").rglob("*.py"))

# Each part of nmt and the parts that it may import beside itself.
ALLOWED: dict[str, set[str]] = {
    "kernels": set(),
    "model": {"kernels"},
    "data": set(),
    "bundle": {"model", "data"},
    "training": {"model", "data"},
    "decoding": {"bundle", "model", "kernels", "data"},
    "evaluation": {"decoding", "model", "data"},
    "export": {"decoding", "bundle", "model", "data"},
    "config": {
        "data.config",
        "model.config",
        "training.config",
        "decoding.config",
        "evaluation.config",
        "export.config",
    },
    "__main__": {"cli"},
}
EVERYTHING = {"cli", "__init__"}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def imports(file: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in the file it does."""
    package = module_name(file).split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{module}.{name.name}" for name in node.names)


def allowed(importer: str, imported: str) -> bool:
    """`nmt.training.loss` may import `nmt.model.transformer.Transformer`, but not the other way round."""
    part, target = importer.split(".")[1], imported.removeprefix("nmt.")
    others = ALLOWED[part] | {part}
    return any(target == other or target.startswith(f"{other}.") for other in others)


def test_every_part_has_its_rule() -> None:
    parts = {module_name(file).split(".")[1] for file in FILES}
    assert len(FILES) > 20
    assert parts <= ALLOWED.keys() | EVERYTHING


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module_name(file)} imports {imported}"
        for file in FILES
        if module_name(file).split(".")[1] not in EVERYTHING
        for imported in imports(file)
        if imported.startswith("nmt.") and not allowed(module_name(file), imported)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("sentencepiece", ("nmt.data.tokenizer",)),
        ("hydra", ("nmt.cli",)),
        ("pickle", ()),
    ],
)
def test_library_stays_where_it_belongs(library: str, homes: tuple[str, ...]) -> None:
    users = {
        module_name(file) for file in FILES for imported in imports(file) if imported.split(".")[0] == library
    }
    assert all(user.startswith(homes or "nothing") for user in users), users


def test_names_say_what_is_inside() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "base", "constants"}
    assert not [file for file in FILES if vague & {file.stem, file.parent.name}]


def test_settings_are_read_without_heavy_imports() -> None:
    """A wrong setting is reported in less than two seconds, which importing torch alone can take."""
    modules = [module_name(file) for file in FILES if file.name == "config.py"]
    assert len(modules) >= 5
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {[*modules, 'nmt.cli.launch']}];"
        "print(*{'torch', 'datasets', 'sentencepiece', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
