"""The C files of this folder as one library, compiled when first asked for and kept in the user's cache."""

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
# By what PyTorch finds in the processor. No -march=native: a home may be shared by unlike machines.
_FLAGS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
}
_MOST_SECONDS = 120


@cache
def library() -> ctypes.CDLL | None:
    """The library for this machine; None without a C compiler, or where the environment says NMT_KERNELS=0.

    For Linux only: elsewhere the name of a compiler may stand for a program that wants to install one.
    """
    if os.environ.get("NMT_KERNELS") == "0" or sys.platform != "linux":
        return None
    names = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        _log.info(
            "no C compiler (cc, gcc or clang): decoding on a CPU does without nmt's kernels and is slower"
        )
        return None
    try:
        return _load(compiler, _flags())
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or "").strip() or str(error)
        _log.warning(
            "decoding on a CPU is slower, for nmt's kernels cannot be compiled: %s", said.splitlines()[0]
        )
        return None


@cache
def function(name: str, job: type[ctypes.Structure], result: Any = None) -> Any:
    """The function that takes such a job and a number of threads; None where there is no library, or the
    processor has not the instructions that the function is made of."""
    loaded = library()
    if loaded is None or not hasattr(loaded, name):
        return None
    found = getattr(loaded, name)
    found.argtypes, found.restype = [ctypes.POINTER(job), ctypes.c_int], result
    return found


def _flags() -> list[str]:
    level = torch.backends.cpu.get_cpu_capability()
    flags = list(_FLAGS.get(level, []))
    if level == "AVX512" and torch.cpu._is_vnni_supported():
        flags.append("-mavx512vnni")
    return flags


def _load(compiler: str, flags: list[str]) -> ctypes.CDLL:
    """
    Raises:
        OSError, subprocess.SubprocessError: the files cannot be read or compiled, or the library not loaded.
    """
    digest = hashlib.sha256(" ".join([compiler, *flags]).encode())
    for file in sorted(_FOLDER.glob("*.[ch]")):
        digest.update(file.read_bytes())
    kept = _cache_folder() / f"kernels-{digest.hexdigest()[:16]}.so"
    if kept.is_file():
        return ctypes.CDLL(str(kept))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = tempfile.TemporaryDirectory(dir=kept.parent)
    except OSError:
        # Nowhere to keep it: the next process compiles again.
        folder = tempfile.TemporaryDirectory()
    with folder as name:
        made = Path(name) / kept.name
        _compile(compiler, flags, made)
        loaded = ctypes.CDLL(str(made))
        # Whole or not at all: several processes may be compiling.
        with contextlib.suppress(OSError):
            made.replace(kept)
        return loaded


def _compile(compiler: str, flags: list[str], target: Path) -> None:
    sources = [str(file) for file in sorted(_FOLDER.glob("*.c"))]
    command = [compiler, "-O3", "-std=gnu11", "-shared", "-fPIC", *flags, *sources, "-o", str(target), "-lm"]
    try:
        _run([*command, "-fopenmp"])
    except subprocess.CalledProcessError:
        # A compiler without OpenMP: one thread then does the work of all.
        _run(command)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_MOST_SECONDS)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "nmt"
