"""What `model=` names: one model folder, or several that translate as an ensemble."""

import csv
from pathlib import Path

from nmt.config import ConfigError


def model_folders(given: str) -> list[str]:
    """The folders in A, in A,B or in [A,B]; quotation marks hold together a name with a comma.

    What exists under the very name that is given is one folder.

    Raises:
        ConfigError: an empty name among several.
    """
    if given and Path(given).exists():
        return [given]
    inside = given[1:-1] if given.startswith("[") and given.endswith("]") else given
    names = [name.strip() for name in next(csv.reader([inside], skipinitialspace=True), [""])]
    if not names or not all(names):
        raise ConfigError(f"model={given}: must be FOLDER, or FOLDER,FOLDER for an ensemble")
    return names
