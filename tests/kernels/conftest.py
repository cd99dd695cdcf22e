"""The kernels as they are compiled for this processor, and for lesser ones."""

from collections.abc import Callable, Iterator

import pytest
import torch

from nmt.kernels import library


def forget() -> None:
    for function in (library.library, library.function):
        function.cache_clear()


@pytest.fixture(scope="module", params=["this processor's", "AVX2", "none"])
def instructions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Compile for these vector instructions."""
    if library.library() is None:
        pytest.skip("no C compiler")
    level = torch.backends.cpu.get_cpu_capability()
    if request.param == "AVX2" and level not in ("AVX2", "AVX512"):
        pytest.skip("no such instructions")
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "this processor's":
            patch.setattr(library, "_flags", lambda: library._FLAGS.get(request.param, []))
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        forget()
        assert library.library() is not None
        yield request.param
    forget()


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set the number of PyTorch's threads until the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
