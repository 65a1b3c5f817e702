"""Swin, Swin V2, Hiera, SAM's encoders, TinyViT and HiViT."""

from __future__ import annotations

from zoo_vit.rows.row import Family

FAMILIES: tuple[Family, ...] = ()
