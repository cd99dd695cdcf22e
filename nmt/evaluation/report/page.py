"""The report as one HTML file: no part of it is fetched from anywhere, and nothing in it is taken for HTML.

A template with automatic escaping writes every text; sentences for the script stand in a block of JSON whose
angle brackets are written as escapes. A content security policy lets the browser load nothing and run this
one script only, so that even a mistake here would not run what stands in a test set.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nmt.evaluation.report.content import LETTERS, Report, SliceRow

_FOLDER = Path(__file__).parent


def render(report: Report) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_FOLDER / "report.js").read_text(encoding="utf-8")
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        report=report,
        letters=LETTERS,
        # Both are ours and hold no user's text.
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        data=json_block(
            {"letters": LETTERS[: len(report.systems)], "sets": [s.sentences for s in report.sections]}
        ),
        svg=Markup,
        scale=whisker_scale,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def json_block(content: Any) -> Markup:
    """JSON for the inside of a script element, where no text may end it or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def whisker_scale(rows: list[SliceRow], overall: list[float], metric: str) -> dict[str, Any]:
    """Ends of the axis that intervals of slices are drawn on, with a little room."""
    found = [score for row in rows for scores in row.scores for score in scores if score.name == metric]
    ends = [end for score in found if score.interval for end in (score.interval.low, score.interval.high)]
    values = [*ends, *overall]
    if not values:
        return {}
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 1.0
    return {"low": low - room, "width": high - low + 2 * room}
