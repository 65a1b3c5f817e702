"""Image towers of CLIP, SigLIP and InternVL."""

from __future__ import annotations

from zoo_vit.rows.row import Family

FAMILIES: tuple[Family, ...] = ()
