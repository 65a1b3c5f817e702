"""DINOv2 and EVA-02."""

from __future__ import annotations

from zoo_vit.rows.row import Family

FAMILIES: tuple[Family, ...] = ()
