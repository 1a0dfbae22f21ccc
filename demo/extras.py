"""Packages that only Home Assistant's web interface needs, kept out of the project's environment."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("extras.txt")
FOLDER = ROOT / ".tools" / "home-assistant-extras"
_SECONDS_TO_INSTALL = 600


class ExtrasError(Exception):
    """The packages can't be installed; the message says why."""


def wanted_stamp() -> str:
    """Return what the folder's stamp should say: the list and the interpreter that it was made for."""
    return hashlib.sha256(LIST.read_bytes() + sys.version.encode()).hexdigest()


def ensure_extras(folder: Path = FOLDER) -> Path:
    """Install the packages where they are missing or others; return their folder. Raises ExtrasError."""
    stamp = folder / ".stamp"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted_stamp():
        return folder
    print(f"installing what Home Assistant's web interface needs into {folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    command = [str(_uv()), "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    command += ["--python", sys.executable, "--requirement", str(LIST)]
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_SECONDS_TO_INSTALL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExtrasError(f"uv did not install {LIST.name}: {error}") from None
    if done.returncode:
        raise ExtrasError(
            f"uv could not install {LIST.name}; two of its packages are compiled, which needs a C and C++ "
            f"compiler (Debian: apt-get install g++). It said:\n{done.stderr.strip()[-2000:]}"
        )
    stamp.write_text(wanted_stamp(), encoding="utf-8")
    return folder


def _uv() -> Path:
    """Return uv: it comes with Home Assistant."""
    beside = Path(sys.executable).with_name("uv")
    if beside.is_file():
        return beside
    found = shutil.which("uv")
    if found is None:
        raise ExtrasError("no uv beside the interpreter nor on PATH; run script/setup first")
    return Path(found)


def _environment() -> dict[str, str]:
    """Return our environment; uv is told of the index that pip is told of."""
    environment = dict(os.environ)
    if not environment.get("UV_DEFAULT_INDEX") and not environment.get("UV_INDEX_URL"):
        index = environment.get("PIP_INDEX_URL") or _pip_index()
        if index:
            environment["UV_DEFAULT_INDEX"] = index
    return environment


def _pip_index() -> str:
    command = ["python3", "-m", "pip", "config", "get", "global.index-url"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError, subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
