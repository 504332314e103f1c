"""The release; pyproject.toml and CHANGELOG.md name the same."""

VERSION = "0.2.0"
