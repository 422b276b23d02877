"""The house's arrows: who may import whom, and what no room may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "speakerkit"
BASE = {"config", "errors"}

# room -> what it may import of speakerkit besides itself; imports point down, never up or sideways.
ARROWS = {
    "cli": {"jobs", "training", "inference", "models", "scoring", "features", "io"} | BASE,
    "api": {"jobs", "training", "inference", "models", "scoring", "features", "io"} | BASE,
    "jobs": {"training", "inference", "models", "scoring", "features", "io"} | BASE,
    "training": {"models", "scoring", "features", "io"} | BASE,
    "inference": {"models", "scoring", "features", "io"} | BASE,
    "models": {"features", "io.files", "io.output"} | BASE,  # of io only the writer
    "scoring": {"errors"},
    "features": BASE,
    "io": {"errors"},
    "config": {"errors"},
    "errors": set(),
    "pretrained": set(),
    "__init__": {"api", "errors"},
    "__main__": {"cli"},
}
NO_TORCH = ("scoring", "io")
NO_FILES = ("scoring", "features")
FILE_MODULES = {"os", "pathlib", "io", "soundfile", "kaldiio", "shutil", "tempfile", "tomllib", "wave"}
HEAVY = ("torch", "torchaudio", "numpy", "scipy", "polars", "soundfile", "soxr", "kaldiio", "matplotlib", "safetensors")
# kaldiio runs a path that ends in '|' as a shell command and unpickles what it is told to.
KALDIIO_READERS = ("kaldiio.load_", "kaldiio.open_like_kaldi", "kaldiio.ReadHelper")
NAMELESS = {"utils", "util", "misc", "common", "helpers", "helper", "tools"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports_of(path: Path) -> list[tuple[str, int, bool]]:
    """Every imported dotted name as (name, line, at module level), from-imports with the name they take."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(node) for scope in ast.walk(tree) if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef))
              for node in ast.walk(scope)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(name.name, node.lineno, id(node) not in inside) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            found += [(f"{node.module}.{name.name}", node.lineno, id(node) not in inside) for name in node.names]
    return found


def is_allowed(room: str, name: str) -> bool:
    """Whether a module of ``room`` may import ``name``, e.g. "speakerkit.io.files.write_text"."""
    inner = name.removeprefix("speakerkit.")
    if inner in ("speakerkit", "__version__"):
        return True
    below = ARROWS[room] | {room}
    return any(inner == target or inner.startswith(target + ".") for target in below)


@pytest.mark.parametrize("room, name, allowed", [
    ("cli", "speakerkit.training.loop.train", True),
    ("io", "speakerkit.errors.DataError", True),
    ("io", "speakerkit.config.read_system", False),
    ("models", "speakerkit.io.files.write_json", True),
    ("models", "speakerkit.io.audio.load_audio", False),
    ("training", "speakerkit.inference.extractor", False),   # sideways
    ("scoring", "speakerkit.io.trials.read_trials", False),  # upwards
])
def test_arrows_by_hand(room, name, allowed):
    assert is_allowed(room, name) == allowed


def test_every_room_has_its_arrows():
    assert {room_of(path) for path in MODULES} <= set(ARROWS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path)
    wrong = [f"line {line}: {name}" for name, line, _ in imports_of(path)
             if name.split(".")[0] == "speakerkit" and not is_allowed(room, name)]
    assert not wrong, f"{room}/ may import {sorted(ARROWS[room])}"


def test_only_the_python_api_fetches_urls():
    """Nothing that takes requests or lists may be made to connect somewhere."""
    users = {str(path.relative_to(PACKAGE)) for path in MODULES for name, _, _ in imports_of(path)
             if name.startswith("speakerkit.io.fetch")}
    assert users == {"api.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_keep_to_their_libraries(path):
    room = room_of(path)
    wrong = []
    for name, line, at_top in imports_of(path):
        library = name.split(".")[0]
        if library == "torchaudio" and at_top:  # its wheel can't be imported beside a CPU build of torch
            wrong.append(f"line {line}: torchaudio at module level")
        if name.startswith(KALDIIO_READERS):
            wrong.append(f"line {line}: {name}")
        if library == "torch" and room in NO_TORCH:
            wrong.append(f"line {line}: torch in {room}/")
        if library in FILE_MODULES and room in NO_FILES:
            wrong.append(f"line {line}: {library} in {room}/, which never touches a file")
        if room in BASE and library not in sys.stdlib_module_names | {"speakerkit"}:
            wrong.append(f"line {line}: {library} in {room}.py, which needs the standard library only")
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_calls_that_no_room_makes(path):
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name.startswith(KALDIIO_READERS):
            wrong.append(f"line {node.lineno}: {name}")
        if name in ("eval", "exec", "os.system", "pickle.load", "pickle.loads"):
            wrong.append(f"line {node.lineno}: {name}")
        if name == "open" and room_of(path) in NO_FILES:
            wrong.append(f"line {node.lineno}: open in {room_of(path)}/, which never touches a file")
    assert not wrong


def test_names_say_what_they_hold():
    assert not [path for path in MODULES if NAMELESS & set(path.relative_to(PACKAGE).with_suffix("").parts)]


def test_commands_start_without_heavy_libraries():
    names = [f"speakerkit.cli.{path.stem}" for path in MODULES if room_of(path) == "cli" and path.stem != "__init__"]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    loaded = [library for library in {HEAVY!r} if library in sys.modules]
    if loaded:
        sys.exit(f"{{name}} loads {{', '.join(loaded)}} when it is imported")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
