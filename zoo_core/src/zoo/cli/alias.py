"""`zoo alias`: short names of your own for models."""

from __future__ import annotations

from zoo.catalog.aliases import remove_alias, set_alias, user_aliases
from zoo.cli.arguments import Arguments, Command, Option, UsageError, nearest
from zoo.cli.terminal import table

COMMAND = Command(
    "alias",
    operands=("ACTION", "NAME?", "MODEL?"),
    options=(Option("--json", "with ls: one JSON object for machines"),),
    notes=("ACTION is ls, set or rm. Your names count on this machine only, and never replace a first-party name.",),
    examples=(
        ("zoo alias set mine timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "call it mine"),
        ("zoo alias ls", "the names there are"),
        ("zoo alias rm mine", "forget it"),
    ),
)
_OPERANDS = {"ls": 1, "set": 3, "rm": 2}


def run(arguments: Arguments) -> int:
    """List, set or remove."""
    action, *names = arguments.operands
    if action not in _OPERANDS or len(arguments.operands) != _OPERANDS[action]:
        near = nearest(action, _OPERANDS) or "ls"
        raise UsageError(
            "zoo alias ls, zoo alias set NAME MODEL, or zoo alias rm NAME",
            asked="zoo alias " + " ".join(arguments.operands),
            fix={"ls": "zoo alias ls", "set": "zoo alias set NAME MODEL", "rm": "zoo alias rm NAME"}[near],
        )
    if action == "set":
        print(f"{names[0]} means {set_alias(names[0], names[1])} from now on")
    elif action == "rm":
        remove_alias(names[0])
        print(f"{names[0]} is forgotten")
    else:
        _list(arguments.flag("json"))
    return 0


def _list(as_json: bool) -> None:
    known = user_aliases()
    if as_json:
        import json

        print(json.dumps(known, indent=2, sort_keys=True, ensure_ascii=False))
    elif known:
        table([("NAME", "MODEL"), *sorted(known.items())])
    else:
        print("no names of your own yet; zoo alias set NAME MODEL makes one")
