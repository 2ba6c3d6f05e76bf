"""The `router:` section of a training configuration.

grpo:
  router:
    enabled: true
    block_size: 64
    base_kv_events_port: 5557
    base_metrics_port: 5657
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class RouterConfig:
    """Settings of the router; every field has the default of the section's own documentation."""

    enabled: bool = False
    """Whether requests are routed by prefix; without it they go round robin."""
    block_size: int = 64
    """Tokens in a KV block; has to be the engine's."""
    base_kv_events_port: int = 5557
    """Worker i publishes KV events on this port + i."""
    base_metrics_port: int = 5657
    """Worker i publishes load metrics on this port + i."""

    def __post_init__(self) -> None:
        mistakes = []
        for field in fields(self):
            value, wanted = getattr(self, field.name), bool if field.name == "enabled" else int
            if type(value) is not wanted:
                mistakes.append(f"{field.name} is {value!r}, not {wanted.__name__}")
            elif field.name.endswith("_port") and not 1 <= value <= 65535:
                mistakes.append(f"{field.name} is {value}, not a port from 1 to 65535")
            elif field.name == "block_size" and value < 1:
                mistakes.append(f"block_size is {value}, not 1 or more")
        if mistakes:
            raise ValueError("router: " + "; ".join(mistakes))

    @classmethod
    def from_mapping(cls, section: Mapping[str, Any]) -> RouterConfig:
        """Reads the section. An unknown field is an error that names the nearest known one."""
        known = [field.name for field in fields(cls)]
        for name in section:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
                raise ValueError(f"router: unknown field {name!r}; did you mean {near[0]!r}?")
        return cls(**section)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> RouterConfig:
        """Reads a whole configuration: `grpo.router`, or `router` at its top.

        One without such a section has the defaults, and so no router. `overrides` are those of a
        training job's command line, such as `grpo.router.enabled=false`; those of other sections
        are left alone.
        """
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        if not isinstance(tree, Mapping):
            raise ValueError(f"{path}: the top of the configuration is no mapping")
        grpo = tree.get("grpo")
        section = (grpo.get("router") if isinstance(grpo, Mapping) else None) or tree.get("router")
        if section is not None and not isinstance(section, Mapping):
            raise ValueError(f"{path}: router is {section!r}, not a mapping")
        return cls.from_mapping({**(section or {}), **_overrides(overrides)})


def _overrides(overrides: Sequence[str]) -> dict[str, Any]:
    found = {}
    for override in overrides:
        name, equals, value = override.lstrip("+").partition("=")
        section, _, field = name.rpartition(".")
        if section in ("grpo.router", "router"):
            if not equals:
                raise ValueError(f"override {override!r} has no value; write {name}=VALUE")
            found[field] = yaml.safe_load(value)
    return found
