"""A virtual environment of this project, from locked versions, and what it takes on disk.

Belongs here: making one. Not here: what is measured in it. The tests of the base install and of functions make theirs
the same way.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_CACHE: Final = "__pycache__"


@dataclass(frozen=True)
class Environment:
    """A virtual environment. It has no pip of its own, as it counts for what is installed in it."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.program("python")

    def program(self, name: str) -> Path:
        """A program of it."""
        return self.folder / "bin" / name

    def size_bytes(self) -> int:
        """The bytes of all files, without those that Python compiles for itself and without Python."""
        return sum(path.stat().st_size for path in self._files() if path.parent.name != _CACHE)

    def compile(self) -> int:
        """Compile all modules, as pip does when it installs them; returns how many bytes that takes."""
        subprocess.run([self.python, "-m", "compileall", "-q", self.folder / "lib"], check=False, capture_output=True)
        return sum(path.stat().st_size for path in self._files() if path.parent.name == _CACHE)

    def packages(self) -> int:
        """How many packages are installed, this project among them."""
        return len(list(self.folder.glob("lib/python*/site-packages/*.dist-info")))

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]


def build_wheel(folder: Path) -> Path:
    """The wheel of this project."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_base(folder: Path, wheel: Path) -> Environment:
    """An environment of the base install: requirements/base.txt with its hashes checked, and the wheel."""
    made = make_locked(folder, ROOT / "requirements" / "base.txt")
    install_wheel(made, wheel)
    return made


def make_locked(folder: Path, requirements: Path) -> Environment:
    """An environment with nothing but the wheels that a file of requirements names, their hashes checked."""
    made = _make(folder)
    _install(made, "--require-hashes", "-r", requirements)
    return made


def install_wheel(environment: Environment, wheel: Path) -> None:
    """Add a wheel without what it depends on."""
    _install(environment, "--no-deps", "--no-index", wheel)


def make_with_extra(folder: Path, wheel: Path, extra: str) -> Environment:
    """An environment of the base install and one extra, in the versions of requirements/dev.txt."""
    made = _make(folder)
    locked = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    constraints = folder / "constraints.txt"
    # A wheel that was just built has no hash, and one hash asks for all.
    constraints.write_text("\n".join(re.findall(r"^\S+==[^\\\n]+", locked, re.MULTILINE)), encoding="utf-8")
    _install(made, "-c", constraints, f"exr-pipeline[{extra}] @ {wheel.as_uri()}")
    constraints.unlink()
    return made


def _make(folder: Path) -> Environment:
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    return Environment(folder)


def _install(environment: Environment, *what: str | Path) -> None:
    """By uv, else by pip, as the Makefile does it: uv may not reach an index that pip is configured for."""
    options = ("--quiet", "--only-binary", ":all:")
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        command = [uv, "pip", "install", "--python", environment.python, *options, *what]
        if subprocess.run(command, check=False).returncode == 0:
            return
    _run(sys.executable, "-m", "pip", "--python", environment.python, "install", "--no-compile", *options, *what)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, cwd=ROOT)
