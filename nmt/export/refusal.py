"""What cannot be exported, said by name and before any work."""

import importlib.util

from nmt.export.config import ExportFormat


class ExportError(ValueError):
    """An export that cannot be made or is not the same model; the message says why and the way out."""


def require_package(export_format: ExportFormat, package: str) -> None:
    """
    Raises:
        ExportError: the library of the format is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ExportError(
            f"format={export_format}: needs the package {package}, which is not installed:"
            f" pip install 'nmt[{export_format}]'"
        )
