"""The script that makes terrible files, on a small one: no line lost, killed twice, the same bytes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = [
    "The small dog sees the old cat.",
    "Where is the house?",
    "Two men walk to the station, and wait.",
]


def test_a_small_file(tmp_path: Path) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("".join(f"{sentence}\n" for sentence in SENTENCES * 50), encoding="utf-8")
    script = ROOT / "scripts" / "torture_translate.py"
    command = [sys.executable, script, "--sentences", sentences, "--lines", "9000", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed with") == 2
    assert "lines out: 9,000, of them blank as they were" in done.stdout
    assert "byte-identical after 2 kills" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["sentences.txt"]
