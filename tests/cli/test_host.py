"""Settings of the process, seen from inside a new one."""

import subprocess
import sys

import pytest
import torch

from nmt.model.packed_linear import can_pack

# Products of several hundred shapes, and after each third of them what the process takes in MB.
_GROW = """
from nmt.cli import host
host.tune()
host.bound_kept_code()
import torch
torch.set_num_threads(1)
weight = torch.ops.mkldnn._reorder_linear_weight(torch.rand(64, 64), 256)
for third in range(3):
    for rows in range(1, 501):
        torch.ops.mkldnn._linear_pointwise(torch.rand(500 * third + rows, 64), weight, None, "none", [], "")
    status = open("/proc/self/status").read()
    print(int(status.partition("VmRSS:")[2].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(not can_pack(torch.float32, torch.device("cpu")), reason="has no oneDNN layouts")
def test_memory_does_not_grow_with_the_shapes_of_products() -> None:
    run = subprocess.run([sys.executable, "-c", _GROW], capture_output=True, text=True, check=True)
    _, second, third = map(int, run.stdout.split())
    assert third - second < 25
