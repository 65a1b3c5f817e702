"""What zoo-vit offers: the rows of `zoo_vit.rows` as the zoo's records. Torch-free; `zoo plugin compile` writes it as
`zoo.json`. Weights that timm publishes are taken over from zoo-timm's own rows, under the short names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from zoo.specs import CheckpointSpec, InputSpec, ModelSpec, PluginSpec
from zoo_timm.catalog import ARCHITECTURES
from zoo_vit.rows import hierarchical, hivit, image_text, masked, plain, self_supervised
from zoo_vit.rows.row import Family, Size, Timm

FAMILIES = (
    *plain.FAMILIES,
    *hierarchical.FAMILIES,
    *hivit.FAMILIES,
    *self_supervised.FAMILIES,
    *masked.FAMILIES,
    *image_text.FAMILIES,
)


def _model(family: Family, size: Size) -> ModelSpec:
    published = tuple(_from_timm(size)) + size.elsewhere
    published = tuple(sorted(published, key=lambda row: row.name != size.default)) if size.default else published
    taken = {alias for checkpoint in published for alias in checkpoint.aliases} | {size.name}
    formats = tuple(dict.fromkeys(("native", *(("timm",) if size.timm else ()), *family.formats)))
    return ModelSpec(
        name=size.name,
        factory=family.factory,
        task=family.task,
        config=size.config,
        summary=family.summary,
        family=family.factory.rpartition(":")[2],
        aliases=tuple(alias for alias in size.aliases if alias not in taken),
        tags=family.tags,
        paper=family.paper,
        license=family.license,
        input=published[0].input if published else InputSpec(),
        formats=formats,
        checkpoints=published,
    )


def _from_timm(size: Size) -> Iterator[CheckpointSpec]:
    """timm's weights, a tag that stands for several image sizes with the size behind all but the first."""
    used = {row.name for row in size.elsewhere}
    usual = None
    for named in size.timm:
        entry = named if isinstance(named, Timm) else Timm(named)
        architecture = entry.architecture
        about = ARCHITECTURES[architecture]
        usual = usual or about.input.size
        for number, row in enumerate(about.checkpoints):
            if entry.tags and row.name not in entry.tags:
                continue
            side = row.input.size[0]
            name = row.name if row.name not in used else f"{row.name}_{entry.suffix or side}"
            used.add(name)
            needs = dict(entry.config)
            if row.input.size != usual:
                needs["image_size"] = side
            own = (f"{architecture}.{row.name}", *((architecture,) if number == 0 else ()))
            aliases = (*own, *(name for name in _file_names(row) if name not in _PUBLISHED))
            yield replace(
                row,
                name=name,
                config=needs,
                aliases=aliases,
                input=replace(row.input, **entry.input),
                metrics=row.metrics + entry.metrics.get(row.name, ()),
                notes="" if row.notes in entry.heeded else row.notes,
            )


def _file_names(row: CheckpointSpec) -> Iterator[str]:
    """timm's names of the files of a row: a file can serve a second architecture of timm, under the first one's."""
    for source in row.sources:
        if source.startswith(_HUB):
            yield source.removeprefix(_HUB).partition("@")[0]


_HUB = "hf://timm/"
_PUBLISHED = frozenset(
    f"{named.architecture}.{row.name}"
    for family in FAMILIES
    for size in family.sizes
    for entry in size.timm
    for named in [entry if isinstance(entry, Timm) else Timm(entry)]
    for row in ARCHITECTURES[named.architecture].checkpoints
    if not named.tags or row.name in named.tags
)
"""What the rows of timm are called here already."""


PLUGIN = PluginSpec(
    namespace="vit",
    distribution="zoo-vit",
    summary="Vision transformers with their published weights",
    requires=("torch", "timm", "zoo_timm"),
    models=tuple(_model(family, size) for family in FAMILIES for size in family.sizes),
)
