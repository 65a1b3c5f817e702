"""create(): reference → record → checked options → class → module → weights.

Nothing of a plugin is imported before its options are known to be right, nothing is initialised that is about to be
overwritten, and nothing is fetched before the model's structure is known to fit it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any

import torch

from zoo.build.choosing import OWN_FILE, check_is_there, chosen_checkpoint, is_file, resolve
from zoo.build.descriptions import PARTS
from zoo.build.fast_init import without_initialisation
from zoo.build.fresh import Fresh
from zoo.build.heads import check_head, classes_of, composes
from zoo.build.locked import as_locked, check_component, within_saved
from zoo.build.options import check_options, merge_spellings
from zoo.build.own_files import check_before_fetching, check_own_license, license_of
from zoo.build.placement import Placement, as_placement, check_holds_values
from zoo.build.weights import check_structure, load_weights
from zoo.catalog import Resolved, open_catalog
from zoo.catalog.licenses import accepting, check_license
from zoo.checkpoints.absent import told_as
from zoo.checkpoints.opening import files_of, is_here, open_checkpoint, peek_structure
from zoo.errors import OptionError, UnsupportedError
from zoo.models.config import ModelConfig
from zoo.models.labels import LabelSpace, label_space
from zoo.models.model import Backbone, Component, Model
from zoo.models.provenance import Provenance
from zoo.plugin.hooks import call, carry_checkpoint, read_weights
from zoo.plugin.hookspecs import ModelCreated
from zoo.plugin.loading import load_factory
from zoo.refs import is_external, parse
from zoo.specs import CheckpointSpec, InputSpec


def create(
    ref: str,
    *,
    pretrained: bool = False,
    checkpoint: str | PathLike[str] | None = None,
    format: str | None = None,
    backbone: Any = None,
    neck: Any = None,
    head: Any = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    strict: bool = True,
    allow_licenses: Sequence[str] | str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    **config: Any,
) -> Any:
    """Build a model by reference. Random weights unless asked; no network unless asked.

    Args:
        ref: `resnet50`, `resnet50.a1_in1k`, `timm/vit_tiny_patch16_224`, a published name, `hf://org/repo`, or
            `file://folder` of `save_pretrained`.
        pretrained: load the referenced (or default) checkpoint. The model comes back in evaluation mode.
        checkpoint: instead, a checkpoint of the model by name, or a file of your own: a path or `file://`, `hf://`,
            `https://`, `pkg://` address, in the published `format` it was written in; of sharded weights, their
            `….index.json`. Of a folder here: the `model.safetensors` or `pytorch_model.bin`, or its index, in it.
        format: the key format of a file of your own; default `native`.
        backbone, neck, head: parts of a composed model: names, mappings or modules.
        features_only: give the backbone: `forward(images) -> list` of NCHW maps, `out_indices` of them (negative
            ones count from the coarsest), with `.channels` and `.strides`.
        num_classes: outputs of the head. Another number than a published checkpoint's replaces the head, and only
            the head, by a freshly initialised one; the load report says so. For a file of your own: what it has.
        in_chans: image channels; the first convolution of pretrained weights is adapted.
        img_size: another input size, where the family allows it: pixels, or (height, width).
        strict: False lets a file lack tensors, or have a head of another shape (freshly initialised), and have tensors
            that the model does not know (ignored). The load report names them.
        allow_licenses: SPDX ids of weight licences to accept beside the permissive ones; `"*"` accepts any. A file of
            your own is free unless it says otherwise itself; one from elsewhere that says nothing is `unknown`.
        device, dtype: where and as what the parameters are made.
        config: further fields of the model's config; `zoo info REF` lists them.

    Returns:
        A `zoo.Model`, or a `zoo.Backbone` with `features_only`.

    Raises:
        RefError, NotFoundError, AmbiguousNameError, PluginError: the reference leads to no usable model.
        OptionError, UnsupportedError: an option that does not exist, or that this model cannot serve.
        LicenseError, SourceError, DigestError, FormatError, LoadError: the weights cannot be had, trusted or used.
        LockError: `ZOO_LOCK` names a lock file that says otherwise.
    """
    named: dict[str, Any] = {
        "checkpoint": checkpoint,
        "out_indices": out_indices,
        "num_classes": num_classes,
        "in_chans": in_chans,
        "img_size": img_size,
    }
    named, config = merge_spellings(named, config)
    given = {"backbone": backbone, "neck": neck, "head": head, "num_classes": named["num_classes"]}
    given |= {"in_chans": named["in_chans"], "image_size": named["img_size"]}
    options = {**{name: value for name, value in given.items() if value is not None}, **config}
    chosen, indices = named["checkpoint"], named["out_indices"]
    if isinstance(chosen, bool):  # weights=True
        pretrained, chosen = pretrained or chosen, None
    _check_request(pretrained, chosen, format, features_only, indices, options)
    placement = as_placement(device, dtype)
    if is_external(ref):
        from zoo.build.pretrained import create_external

        if chosen is not None or format is not None:
            raise OptionError("a saved model has its weights with it", fix=f'zoo.create("{ref}")')
        return create_external(
            ref, options, features_only, indices, placement, strict=strict, allow_licenses=allow_licenses
        )
    resolved = resolve(ref)
    weights = as_locked(ref, resolved, chosen_checkpoint(resolved, pretrained, chosen, format), chosen is not None)
    _check_weights(weights, resolved, strict, allow_licenses)
    _check_options(options, resolved)
    with accepting(allow_licenses):
        return _build(resolved, weights, options, features_only, indices, placement, strict)


def create_model(
    architecture: str | None = None,
    *,
    backbone: Any = None,
    neck: Any = None,
    head: Any = None,
    config: Mapping[str, Any] | ModelConfig | None = None,
    **options: Any,
) -> Any:
    """Compose a model from parts by name: `create_model(backbone="resnet50", head="classifier", num_classes=10)`.

    Args:
        architecture: the composed model's reference; None: what the head is made for, its `architecture`.
        backbone, neck, head: names, mappings with `name` and options, or modules.
        config: further config values, as a mapping or config.
        options: everything `create` takes, and config values one by one.
    """
    values = config.given() if isinstance(config, ModelConfig) else dict(config or {})
    twice = sorted(values.keys() & options.keys())
    if twice:
        raise OptionError(f"`{twice[0]}` is given in `config` and beside it", fix=f"pass `{twice[0]}` once")
    architecture = architecture or composes(head)
    return create(architecture, backbone=backbone, neck=neck, head=head, **{**values, **options})


def create_backbone(
    ref: str,
    *,
    pretrained: bool = False,
    features_only: bool = True,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> Backbone:
    """`create(ref, features_only=True, …)`: an encoder that gives NCHW maps with `.channels` and `.strides`."""
    if not features_only:
        raise OptionError("a backbone gives features", asked="features_only=False", fix=f'zoo.create("{ref}")')
    made: Backbone = create(ref, pretrained=pretrained, features_only=True, out_indices=out_indices, **options)
    return made


def build_component(ref: str, kind: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Component:
    """A registered neck or head by name, with the caller's options and those defaults that its config knows."""
    resolved = open_catalog().resolve(ref, kinds=(kind,))
    check_component(ref, resolved)
    known = resolved.schema.get("properties", {})
    suited = {name: value for name, value in defaults.items() if name in known}
    config = {**resolved.model.config, **suited, **options}
    check_options(config, resolved.schema, resolved.ref)
    factory = load_factory(resolved.model.factory, resolved.plugin)
    return factory(factory.Config.of(config, {}))


def _check_options(options: Mapping[str, Any], resolved: Resolved) -> None:
    check_head(options, resolved)
    check_options(options, resolved.schema, resolved.ref)


def _check_request(
    pretrained: bool,
    checkpoint: Any,
    format: str | None,
    features_only: bool,
    out_indices: Sequence[int] | None,
    options: Mapping[str, Any],
) -> None:
    """Refuse arguments that contradict each other, whatever the reference."""
    if not isinstance(pretrained, bool):
        raise OptionError("`pretrained` is True or False", asked=f"pretrained={pretrained!r}", fix='checkpoint="…"')
    if format is not None and (checkpoint is None or not is_file(checkpoint)):
        raise OptionError("`format` says how a file of your own is written", fix='checkpoint="file://…"')
    if out_indices is not None and not features_only:
        raise OptionError("`out_indices` chooses feature maps", fix="features_only=True, out_indices=…")
    if features_only and "num_classes" in options:
        raise OptionError("a backbone has no classes", asked="features_only=True, num_classes=…", fix="one of the two")


def _check_weights(
    weights: CheckpointSpec | None, resolved: Resolved, strict: bool, allow_licenses: Sequence[str] | str | None
) -> None:
    """Refuse weights whose licence is not accepted, and words about weights where there are none."""
    if weights is None and not strict:
        raise OptionError("`strict` is about the weights that are loaded", fix="pretrained=True or checkpoint=…")
    if weights is not None and weights.name != OWN_FILE:
        check_license(weights, _reference(resolved, weights), allow_licenses)


def _reference(resolved: Resolved, weights: CheckpointSpec | None) -> str:
    """The pinned reference of what is really loaded."""
    if weights is None:
        return resolved.ref
    named = None if weights.name == OWN_FILE else weights.name
    return str(parse(resolved.ref)._replace(checkpoint=named))


def _build(
    resolved: Resolved,
    weights: CheckpointSpec | None,
    options: dict[str, Any],
    features_only: bool,
    out_indices: Sequence[int] | None,
    placement: Placement,
    strict: bool,
) -> Component:
    check_is_there(weights)
    published = weights if weights is not None and weights.name != OWN_FILE else None
    about = published or resolved.checkpoint  # what the catalogue says of these weights, or would of its own
    factory = load_factory(resolved.model.factory, resolved.plugin)
    theirs_too = weights is not None or resolved.named_checkpoint  # what trained weights need, fresh ones may not want
    suited = _suited(about, options) if theirs_too else None
    values = {**resolved.model.config, **(suited.config if suited else {}), **options}
    classes = options.get("num_classes")
    theirs = about.num_classes if about is not None else None
    if theirs is not None and "num_classes" in resolved.schema.get("properties", {}):
        # The checkpoint's own head is built and filled; another number of classes then replaces it whole.
        values["num_classes"] = theirs if published is not None or classes is None else classes
    of_head = classes_of(options.get("head"))
    if of_head is not None:  # a head that says it, not the row, whose own head it replaces
        values["num_classes"] = of_head
    make = partial(construct, factory, factory.Config.of(values, {}), features_only, out_indices)
    if "backbone" not in options:  # its own parts: nobody named them here, and the lock has their plugins
        make = partial(_of_own_parts, make)
    if weights is None:
        component = make()
        component.to(*placement)
    else:
        with without_initialisation():
            component = make()
        _fill(component, weights, resolved, placement, None if strict else Fresh(make))
        if published is not None and published.labels is not None and isinstance(component, Model):
            component.label_space = _checked_labels(published)
        if published is not None and theirs is not None and classes not in (None, theirs):
            replace_head(component, int(classes), theirs, placement)
        component.eval()
    _describe(component, resolved.model.input, published or _suited(about, options), options)
    call("model_created", ModelCreated(_reference(resolved, weights), component))
    return component


def _suited(about: CheckpointSpec | None, options: Mapping[str, Any]) -> CheckpointSpec | None:
    """What is published, as far as it says how images become the input of a model with these options.

    It does not where the caller chose another backbone, which has an input of its own.
    """
    return None if options.keys() & set(PARTS) else about


def _checked_labels(checkpoint: CheckpointSpec) -> LabelSpace:
    space = label_space(str(checkpoint.labels))
    if checkpoint.num_classes is not None:
        space.check(checkpoint.num_classes, checkpoint.name)
    return space


def _of_own_parts(make: Callable[[], Component]) -> Component:
    with within_saved():
        return make()


def construct(
    factory: type[Component], config: ModelConfig, features_only: bool, out_indices: Sequence[int] | None
) -> Component:
    """The component a config describes, or its backbone."""
    if not features_only:
        return factory(config)
    if not issubclass(factory, Model | Backbone):
        raise UnsupportedError(f"{factory.__name__} has no feature maps", fix="features_only=False")
    return factory.as_backbone(config, out_indices)


def _fill(
    component: Component, weights: CheckpointSpec, resolved: Resolved, placement: Placement, fresh: Fresh | None
) -> None:
    """Fetch, check and assign the weights of a component whose parameters are unwritten."""
    check_holds_values(placement)
    told = weights.sources[0] if weights.name == OWN_FILE else _reference(resolved, weights)
    with told_as(told, lambda: files_of(weights)):
        if not is_here(weights):
            if weights.name == OWN_FILE:
                check_before_fetching(weights)
            structure = peek_structure(weights)
            if structure is not None:
                check_structure(component, structure, weights.format, weights.sources[0], fresh)
        opened = open_checkpoint(weights, readers=(read_weights,), carriers=(carry_checkpoint,))
    license = weights.license
    if weights.name == OWN_FILE:
        license = license_of(weights.sources[0], opened.metadata)
        check_own_license(weights, license)
    component.load_report = load_weights(
        component,
        opened.tensors,
        format=weights.format,
        source=opened.source,
        strict=fresh is None,
        fresh=fresh,
        inside=opened.metadata.get("zoo.inside", "")[:200],
        **placement._asdict(),
    )
    component.to(*placement)  # what is in no file: non-persistent buffers
    component.provenance = Provenance(
        ref=_reference(resolved, weights),
        distribution=resolved.plugin.distribution,
        plugin_version=resolved.plugin.version,
        source=opened.source,
        sha256=opened.sha256,
        license=license,
        pinned=opened.pinned,
    )


def replace_head(component: Component, classes: int, published: int | None, placement: Placement) -> None:
    """A fresh head for another number of classes on a loaded model; the load report says so."""
    if not isinstance(component, Model) or component.load_report is None:
        raise UnsupportedError("only a model with a head can have it replaced", fix="leave out num_classes")
    before = {name: id(tensor) for name, tensor in component.state_dict(keep_vars=True).items()}
    component.reset_head(classes)
    component.label_space = None
    component.to(*placement)
    after = component.state_dict(keep_vars=True)
    why = f"{classes} classes asked for, the checkpoint has {published}"
    fresh = {name: why for name, tensor in after.items() if before.get(name) != id(tensor)}
    report = component.load_report
    component.load_report = replace(
        report,
        loaded=tuple(n for n in report.loaded if n in after and n not in fresh),
        reinitialised={name: why for name, why in report.reinitialised.items() if name in after} | fresh,
    )


def _describe(
    component: Component, default: InputSpec, about: CheckpointSpec | None, options: Mapping[str, Any]
) -> None:
    """Tell the component how images become its input, unless nothing is published and it knows better itself."""
    if not isinstance(component, Model | Backbone) or (about is None and "input_spec" in vars(component)):
        return
    spec = about.input if about is not None else default
    size = options.get("image_size")
    if size is not None:
        spec = spec.with_size(*((size, size) if isinstance(size, int) else size))
    component.input_spec = spec.with_channels(options.get("in_chans", spec.channels))
