"""The C files of this folder as one library, compiled when first asked for and kept in the user's cache."""

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
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        _log.warning("decoding on a CPU is slower, for nmt's kernels cannot be compiled: %s", said[0])
        return None


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
    with tempfile.TemporaryDirectory(prefix="nmt-kernels-") as folder:
        made = Path(folder) / kept.name
        _compile(compiler, flags, made)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Whole or not at all: several processes may be compiling.
            part = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(made, part)
            os.replace(part, kept)
        except OSError:
            # Nowhere to keep it: the next process compiles again.
            return ctypes.CDLL(str(made))
    return ctypes.CDLL(str(kept))


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
