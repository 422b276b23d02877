"""A script of WeSpeaker's checkout, run as released but for what can't run here; says what was changed.

- ``torch.device("cuda")`` becomes the CPU.
- With --skip-init, or where its package can't be imported for want of what it requires, the package's
  ``__init__`` (and the front ends that need other packages) are skipped.
Nothing in the checkout is changed.
usage: run_peer_script.py CHECKOUT MODULE [--skip-init] [--threads N] -- OPTIONS
"""

import importlib
import runpy
import sys
import tempfile
import types
from pathlib import Path


def skip_init(checkout: Path, package: str) -> None:
    """A package that is only a folder, and front ends without what they import."""
    stand_in = types.ModuleType(package)
    stand_in.__path__ = [str(checkout / package)]
    sys.modules[package] = stand_in
    if importlib.util.find_spec("s3prl") is None:
        front_ends = types.ModuleType(f"{package}.frontend")
        front_ends.frontend_class_dict = {"fbank": None}
        sys.modules[f"{package}.frontend"] = front_ends


def main() -> None:
    end = sys.argv.index("--")
    checkout, module, *options = sys.argv[1:end]
    package, changed = module.partition(".")[0], []
    sys.path.insert(0, checkout)
    if "--skip-init" in options:
        skip_init(Path(checkout), package)
    else:
        try:
            importlib.import_module(package)
        except ImportError as error:
            for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
                del sys.modules[name]
            skip_init(Path(checkout), package)
            changed.append(f"package not imported ({error})")
    if "--threads" in options:
        import torch

        torch.set_num_threads(int(options[options.index("--threads") + 1]))
    path = Path(checkout, *module.split(".")).with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    if 'torch.device("cuda")' in text:
        text = text.replace('torch.device("cuda")', 'torch.device("cpu")')
        changed.append("device string")
    print(f"{path.name}: {', '.join(changed) or 'nothing changed'}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / path.name
        script.write_text(text, encoding="utf-8")
        sys.argv = [str(script), *sys.argv[end + 1 :]]
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
