"""`zoo predict MODEL INPUT…`: what is in the photos."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from zoo.catalog import open_catalog
from zoo.cli.answers import Answers
from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.inputs import Source, expand
from zoo.cli.progress import Progress
from zoo.cli.questions import OPTIONS, Question
from zoo.cli.saving import Destination
from zoo.cli.terminal import show_warnings_plainly, styled
from zoo.errors import InputError, NotFoundError, UnsupportedError, ZooError
from zoo.refs import is_external

if TYPE_CHECKING:
    from zoo.models.model import Component, Model
    from zoo.models.results import Result

COMMAND = Command(
    "predict",
    operands=("MODEL", "INPUT…"),
    options=(
        *OPTIONS,
        Option("--json", "one JSON list for machines, one entry an input, in their order"),
        Option("--save", "write the photos with the answer on them: a file, or a folder for several", value="PATH"),
        Option("--device", "where to compute: cpu (the default), cuda, cuda:1, mps", value="DEVICE"),
        Option("--dtype", "what to compute in: float32 (the default), bfloat16, float16", value="DTYPE"),
        Option("--batch-size", "photos at a time (8)", value="N", short="-b"),
        Option("--checkpoint", "other weights: a checkpoint's name, or a file or folder of your own", value="WEIGHTS"),
        Option("--format", "whose key names it has: native, timm, torchvision …", value="FORMAT"),
        Option("--allow-license", "accept weights under this licence; '*' accepts any", value="SPDX", repeat=True),
    ),
    notes=(
        "An INPUT is a photo, a folder of photos, a quoted pattern such as 'photos/**/*.jpg', an http(s) URL, or - for "
        "standard input: one photo, or a list of paths, one a line.",
        "A photo that cannot be used is named on stderr, the others are answered, and the exit code is 1.",
    ),
    examples=(
        ("zoo predict mobilenetv2 cat.jpg", "the five best classes"),
        ("zoo predict mobilenetv2 photos/ --json", "a whole folder, for machines"),
        ("zoo predict ssd_mobilenetv2 street.jpg --classes car,person --save out.png", "where they are"),
        ("zoo predict mobilenetv2 cat.jpg --save out.png", "the photo with its answer"),
        ("find . -name '*.jpg' | zoo predict mobilenetv2 -", "paths from another program"),
    ),
)
DTYPES = ("float32", "bfloat16", "float16")


def run(arguments: Arguments) -> int:
    """Answer every input in its order."""
    ref, *operands = arguments.operands
    batch_size, question = arguments.number("batch-size", 8), Question(arguments)
    dtype = arguments.text("dtype")
    if dtype not in (None, *DTYPES):
        raise UsageError(f"--dtype is one of {', '.join(DTYPES)}", asked=dtype, fix="--dtype bfloat16")
    show_warnings_plainly()
    _check_model(ref, own_weights=arguments.text("checkpoint") is not None)
    sources, notes = expand(operands)
    for note in notes:
        print(styled(f"note: {note}", "dim", sys.stderr), file=sys.stderr)
    destination = Destination(arguments.text("save"), sources)
    answers = Answers(ref, as_json=arguments.flag("json"))
    with Progress(f"loading {ref}") as progress:
        wanted = any(source.error is None for source in sources)
        model = _create(ref, arguments, question, progress) if wanted else None
        if model is not None and model.provenance is not None:
            answers.model = model.provenance.ref
        progress.step("looking", total=len(sources), unit="photos")
        for number, (source, outcome) in enumerate(_outcomes(model, sources, batch_size, question), start=1):
            path = destination.of(source)
            outcome = _drawn(outcome, path)
            with progress.aside():
                answers.add(source, outcome, path)
            progress.advance(number)
    answers.close()
    return 1 if answers.failed else 0


def _check_model(ref: str, own_weights: bool) -> None:
    """What can be said against the model without importing anything heavy."""
    if is_external(ref):
        return
    resolved = open_catalog().resolve(ref)
    headless = resolved.checkpoint is not None and resolved.checkpoint.num_classes == 0 and not own_weights
    if resolved.model.kind != "model":
        raise _cannot(resolved.ref, f"it is a {resolved.model.kind}")
    if resolved.model.task == "features" or headless:
        raise _cannot(resolved.ref, "these weights have no classes" if headless else "it is for features")
    if resolved.checkpoint is None and not own_weights:
        raise NotFoundError(
            f"{resolved.ref} has no published weights, and without weights it recognises nothing",
            fix="weights of your own: --checkpoint FILE; or a folder of save_pretrained: zoo predict file://FOLDER; or "
            f"another model: zoo list --task {resolved.model.task}",
        )


def _cannot(ref: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"zoo predict says what is in a photo, and {ref} cannot: {why}",
        fix="zoo list --task classification, or --task detection",
    )


def _check_class(made: type[Component], ref: str, question: Question) -> None:
    """What can be said against the model once its code is imported."""
    from zoo.models.model import Model

    if not issubclass(made, Model):
        raise _cannot(ref, f"it is a {made.__name__}, which is no whole model")
    if made.postprocess is Model.postprocess:
        raise _cannot(ref, f"it is for {made.task or 'no task'}")
    question.check(made, ref)


def _create(ref: str, arguments: Arguments, question: Question, progress: Progress) -> Model:
    from zoo import create  # says what to install where torch is missing
    from zoo.checkpoints.delivery import watched_by
    from zoo.models.model import Model
    from zoo.plugin.loading import load_factory

    if not is_external(ref):  # before anything is fetched
        resolved = open_catalog().resolve(ref)
        _check_class(load_factory(resolved.model.factory, resolved.plugin), ref, question)

    def watch(name: str) -> Callable[[int, int | None], None]:
        progress.step(f"fetching {name}", unit="B")
        return progress.advance

    with watched_by(watch):
        made = create(
            ref,
            pretrained=True,
            checkpoint=_weights(arguments),
            format=arguments.text("format"),
            allow_licenses=arguments.texts("allow-license") or None,
            device=_device(arguments.text("device")),
            dtype=arguments.text("dtype"),
        )
    _check_class(type(made), ref, question)  # a saved model's folder says only now what is in it
    assert isinstance(made, Model)
    return made


def _weights(arguments: Arguments) -> str | None:
    """The checkpoint's name, or a path; `my_weights` is one too where a format says that no name is meant."""
    given = arguments.text("checkpoint")
    if given is None or arguments.text("format") is None or "://" in given or not os.path.exists(given):
        return given
    return os.path.join(os.curdir, given)


def _device(asked: str | None) -> str | None:
    """A device that this machine has. Raises `UsageError`."""
    import torch

    known = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        known += [accelerator.type, *(f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count()))]
    if asked is None or asked in known:
        return asked
    raise UsageError(f"there is no device {asked!r} here", found=", ".join(known), fix=f"--device {known[-1]}")


def _outcomes(
    model: Model | None, sources: Sequence[Source], batch_size: int, question: Question
) -> Iterator[tuple[Source, Result | ZooError]]:
    """The result, or the error, of every source, in order."""
    for start in range(0, len(sources), batch_size):
        batch = sources[start : start + batch_size]
        good = [source for source in batch if source.error is None]
        answered = dict(zip(map(id, good), _answer(model, good, question), strict=True)) if model and good else {}
        for source in batch:
            yield source, source.error or answered[id(source)]


def _answer(model: Model, sources: Sequence[Source], question: Question) -> list[Result | ZooError]:
    """One batch. If a photo in it cannot be used, each is tried by itself, so that the others are answered."""
    try:
        return list(question.ask(model, [source.image for source in sources], len(sources)))
    except InputError as error:
        if len(sources) == 1:
            return [error]
    return [answer for source in sources for answer in _answer(model, [source], question)]


def _drawn(outcome: Result | ZooError, path: str | None) -> Result | ZooError:
    """The outcome, its picture written; or why that failed."""
    if path is not None and not isinstance(outcome, ZooError):
        try:
            outcome.plot(path)
        except InputError as error:
            return error
    return outcome
