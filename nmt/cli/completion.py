"""Tab completion: what can stand next on the command line."""

import enum
from dataclasses import is_dataclass

from nmt.cli.schemas import SCHEMAS
from nmt.cli.settings import GROUPS, group_options, setting_type, setting_types

SHELLS = ["bash", "zsh"]
FLAGS = ["--help", "--cfg", "--multirun", "--config-dir"]

# The shell hands over the line up to the cursor. Bash breaks words at "=" and then wants only what
# comes after it; without candidates it goes on to complete file names.
SCRIPT = """\
_nmt_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n' word prefix
    word="${line##* }"
    COMPREPLY=($(nmt --complete "$line" 2>/dev/null))
    if [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]]; then
        prefix="${word%=*}="
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
}
complete -o nospace -o default -F _nmt_completion nmt"""


def completion_script(shell: str) -> str:
    """What the shell evaluates once: eval "$(nmt --completion bash)"."""
    return SCRIPT if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{SCRIPT}"


def complete(line: str) -> list[str]:
    """Candidates for the last word of `line`, which begins with the program's name."""
    words = line.split(" ")[1:]
    word, before = words[-1] if words else "", [each for each in words[:-1] if each]
    verb = next((each for each in before if each in SCHEMAS), None)
    if verb is None:
        candidates = [f"{each} " for each in [*SCHEMAS, "--help", "--version"]]
    elif word.startswith("-"):
        candidates = [f"{each} " for each in FLAGS]
    elif "=" in word:
        candidates = _values(verb, word.partition("=")[0])
    else:
        candidates = _settings(verb, word)
    return sorted(each for each in candidates if each.startswith(word))


def _values(verb: str, name: str) -> list[str]:
    """`name=value ` for everything that can be enumerated."""
    kind = setting_type(SCHEMAS[verb], name)
    values: list[str] = []
    if name in GROUPS[verb]:
        values = group_options(name)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        values = list(kind.__members__)
    elif kind is bool:
        values = ["true", "false"]
    return [f"{name}={value} " for value in values]


def _settings(verb: str, word: str) -> list[str]:
    """Names at the depth of `word`: sections end with a dot, settings and groups with an equals sign."""
    depth = word.count(".")
    names = [f"{group}=" for group in GROUPS[verb]] if depth == 0 else []
    for name, kind in setting_types(SCHEMAS[verb]):
        if name.count(".") == depth and ".NAME" not in name:
            section = is_dataclass(kind) or name == "data.test"
            names.append(f"{name}." if section else f"{name}=")
    return names
