"""A listing is what a plain filter over the manifests would give; SQLite only gives it sooner."""

from __future__ import annotations

import string
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from catalog_rows import checkpoint
from hypothesis import HealthCheck, given, settings, strategies as st

import zoo
from synthetic_plugins import Site
from zoo.catalog import ModelRow, open_catalog
from zoo.catalog.counts import parse_count, shown_count
from zoo.catalog.licenses import classify
from zoo.catalog.lines import heading
from zoo.catalog.listing import Wanted
from zoo.errors import OptionError

Install = Callable[..., Path]
LICENSES = ("MIT", "Apache-2.0", "GPL-3.0", "CC-BY-NC-4.0", "who knows")


def rows(pattern: str = "*", **criteria: Any) -> list[ModelRow]:
    return open_catalog().list_models(pattern, **{"installed": True, **criteria})


def names(pattern: str = "*", **criteria: Any) -> list[str]:
    return [row.name for row in rows(pattern, **criteria)]


def test_a_row_tells_what_the_manifest_says(install: Install) -> None:
    install(
        "acme",
        {
            "name": "tiny",
            "task": "detection",
            "params": 1234,
            "summary": "Small",
            "license": "MIT",
            "checkpoints": [checkpoint("a", license="CC-BY-NC-4.0"), checkpoint("b")],
        },
    )
    assert rows() == [
        ModelRow("acme/tiny", "acme", "tiny", "detection", "model", 1234, "CC-BY-NC-4.0", "installed", 2, "Small")
    ]


def test_the_licence_is_the_codes_where_there_are_no_weights(install: Install) -> None:
    install("acme", {"name": "tiny", "license": "GPL-3.0"})
    assert [row.license for row in rows()] == ["GPL-3.0"]


def test_first_party_names_come_first_and_bare(site: Site, install: Install) -> None:
    install("acme", "aaa")
    install("timm", "bbb")
    install("vit", "zzz")
    assert [row.ref for row in rows()] == ["zzz", "acme/aaa", "timm/bbb"]
    assert zoo.list_models() == ["zzz", "acme/aaa", "timm/bbb"]


def test_a_name_that_two_first_party_plugins_share_is_listed_in_full(install: Install) -> None:
    install("vit", "twin", "own")
    assert [row.ref for row in rows()] == ["twin", "own"]
    install("explain", "twin")
    assert [row.ref for row in rows()] == ["explain/twin", "vit/twin", "own"]
    assert open_catalog().resolve("own").ref == "vit/own@1"


def test_the_order_within_a_plugin_is_its_authors(install: Install) -> None:
    install("acme", "zeta", "alpha", "mid")
    assert names() == ["zeta", "alpha", "mid"]


def test_necks_and_heads_are_listed_only_when_asked_for(install: Install) -> None:
    install("acme", "whole", {"name": "bone", "kind": "backbone"}, {"name": "whole", "kind": "head"})
    assert names() == names("*o*e") == ["whole", "bone"]
    assert names(kind="head") == ["whole"]
    assert "".join(open_catalog().listing(Wanted(installed=True))).count("whole") == 1


def test_what_is_not_installed_is_listed_as_available_and_hidden_by_the_installed(install: Install) -> None:
    (row,) = rows("resnet50", installed=None, plugin="cnn")
    assert (row.namespace, row.status) == ("cnn", "available")
    install("cnn", "resnet50", "resnet51")
    assert [(row.name, row.status) for row in rows("cnn/resnet5?", installed=None)] == [
        ("resnet50", "installed"),
        ("resnet51", "installed"),
    ]
    assert rows("cnn/resnet18", installed=None) == []  # the installed manifest says what there is, not the snapshot
    assert "resnet18" not in zoo.list_models()


def test_a_plugin_set_aside_is_listed_with_its_state(install: Install) -> None:
    install("acme", "tiny", requires=["no_such_package_anywhere"])
    (row,) = rows("acme/*", installed=None)
    assert row.status == "missing-deps"
    assert rows("acme/*") == []
    assert rows("acme/*", installed=False) == [row]


def test_lines_are_the_rows(install: Install) -> None:
    install("acme", *({"name": f"m{i}", "params": 10**i, "tags": ["t"]} for i in range(12)))
    for wanted in ({}, {"pattern": "*1*"}, {"tag": "t", "max_params": "1M"}, {"plugin": "zoo-acme"}):
        text = "".join(open_catalog().listing(Wanted(**{"installed": True, **wanted})))
        listed = rows(**wanted)
        assert text.endswith("\n")
        for line, row in zip(text.splitlines(), listed, strict=True):
            assert line.split()[0] == row.ref
            assert line.split()[2] == shown_count(row.params)
            assert line.index(row.status) == heading().index("STATUS")
    assert open_catalog().listing(Wanted("nothing_of_that_name")) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a*", ["ab1", "ab2"]),
        ("?b1", ["ab1", "cb1"]),
        ("[!a]b*", ["cb1"]),
        ("[a-b]b[2]", ["ab2"]),
        ("acme/*b1", ["ab1", "cb1"]),
        ("ac*/ab?", ["ab1", "ab2"]),
        ("*/ab1", ["ab1"]),
        ("best/*", []),
        ("ab", []),
        ("AB1", []),
        ("%b1", []),
        ("", []),
    ],
)
def test_a_pattern_matches_as_in_a_shell(install: Install, pattern: str, found: list[str]) -> None:
    install("acme", "ab1", "ab2", "cb1")
    assert names(pattern) == found


def test_a_largest_size_includes_itself_and_leaves_out_what_nobody_counted(install: Install) -> None:
    install("acme", {"name": "small", "params": 1_000_000}, {"name": "big", "params": 1_000_001}, "uncounted")
    assert names(max_params="1M") == ["small"]


def test_no_manifest_can_command_a_terminal_through_a_line(install: Install) -> None:
    install("acme", {"name": "tiny", "task": "a\nb\tc é 漢", "license": "MIT\n\n"})
    text = "".join(open_catalog().listing(Wanted(installed=True)))
    assert text.count("\n") == 1
    assert text.rstrip("\n").isascii()
    assert text.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"task": "clasification"}, "did you mean 'classification'?"),
        ({"license": "permisive"}, "did you mean 'permissive'?"),
        ({"plugin": "acmee"}, "did you mean 'acme'?"),
        ({"tag": "mobil"}, "did you mean 'mobile'?"),
        ({"kind": "modle"}, "did you mean 'model'?"),
        ({"max_params": "many"}, "25M"),
        ({"max_params": float("nan")}, "25M"),
        ({"max_params": True}, "25M"),
        ({"pattern": "x" * 100_000}, "pattern"),
        ({"pattern": "\ud800"}, "pattern"),
        ({"pattern": None}, "pattern"),
        ({"task": ["classification"]}, "task"),
        ({"license": 7}, "license"),
        ({"tag": "\ud800"}, "tag"),
        ({"plugin": b"acme"}, "plugin"),
    ],
)
def test_a_misspelt_criterion_is_an_error_with_a_suggestion(
    install: Install, criteria: dict[str, Any], message: str
) -> None:
    install("acme", {"name": "tiny", "tags": ["mobile"]})
    with pytest.raises(OptionError, match=message.replace("?", r"\?")):
        zoo.list_models(**criteria)


@pytest.mark.parametrize(
    "criteria", [{"task": "depth"}, {"license": "AGPL-3.0"}, {"pattern": "x*"}, {"tag": "q"}]
)
def test_a_criterion_that_nothing_happens_to_meet_is_no_error(install: Install, criteria: dict[str, str]) -> None:
    install("acme", "tiny")
    assert zoo.list_models(**criteria) == []


@pytest.mark.parametrize(
    ("given", "count"),
    [("25M", 25_000_000), (25e6, 25_000_000), ("1.5B", 1_500_000_000), ("800k", 800_000), ("7", 7), ("1_000", 1000)],
)
def test_a_count_may_be_written_as_people_do(given: float | str, count: int) -> None:
    assert parse_count(given) == count


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "-"), (0, "0"), (999, "999"), (25_557_032, "25.6M"), (999_999, "1.0M"), (10**9, "1.0B")]
)
def test_a_count_is_shown_short(count: int | None, shown: str) -> None:
    assert shown_count(count) == shown


letters = st.text(string.ascii_lowercase[:3] + "12_", min_size=1, max_size=5)
models = st.fixed_dictionaries(
    {
        "name": letters,
        "kind": st.sampled_from(["model", "backbone", "neck", "head"]),
        "task": st.sampled_from(["classification", "detection", "features"]),
        "params": st.none() | st.integers(0, 4),
        "license": st.sampled_from(LICENSES),
        "tags": st.lists(st.sampled_from(["a", "b", "ab", "a b"]), max_size=3),
    }
)
plugins = st.dictionaries(
    st.sampled_from(["acme", "best", "vit"]), st.lists(models, max_size=6, unique_by=lambda m: m["name"]), min_size=1
)
wanted = st.fixed_dictionaries(
    {},
    optional={
        "pattern": st.lists(st.sampled_from([*"abc12_*?", "[ab]", "[!a]", "[a-c]", "acme/", "*/", "vit/"])).map(
            "".join
        ),
        "plugin": st.sampled_from(["acme", "zoo-best", "vit"]),
        "task": st.sampled_from(["classification", "detection"]),
        "kind": st.sampled_from(["model", "head"]),
        "license": st.sampled_from([*LICENSES, "mit", "permissive", "unknown"]),
        "max_params": st.integers(0, 4),
        "tag": st.sampled_from(["a", "b", "ab", "a b"]),
    },
)


def matches(namespace: str, model: dict[str, Any], pattern: str = "*", **criteria: Any) -> bool:
    """The filter as one would write it in Python."""
    left, slash, right = pattern.rpartition("/")
    checks = {
        "plugin": lambda value: value in (namespace, f"zoo-{namespace}"),
        "task": lambda value: value == model["task"],
        "kind": lambda value: value == model["kind"],
        "license": lambda value: value.casefold() in (model["license"].casefold(), classify(model["license"])),
        "max_params": lambda value: model["params"] is not None and model["params"] <= value,
        "tag": lambda value: value in model["tags"],
    }
    return (
        fnmatchcase(model["name"], right)
        and (not slash or fnmatchcase(namespace, left))
        and ("kind" in criteria or model["kind"] in ("model", "backbone"))
        and all(checks[name](value) for name, value in criteria.items())
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plugins, st.lists(wanted, min_size=5, max_size=5))
def test_a_listing_is_what_a_plain_filter_gives(
    tmp_path_factory: pytest.TempPathFactory,
    site: Site,
    plugins: dict[str, list[dict[str, Any]]],
    wanted: list[dict[str, Any]],
) -> None:
    here = Site(tmp_path_factory.mktemp("site"))
    sys.path[0] = str(here.folder)
    for namespace, rows_of_it in plugins.items():
        here.plugin(namespace, models=[{"factory": "p.m:C", **row} for row in rows_of_it])
    here.age()
    order = sorted(plugins, key=lambda namespace: (namespace != "vit", namespace))
    for criteria in wanted:
        expected = [
            (namespace, row["name"]) for namespace in order for row in plugins[namespace]
            if matches(namespace, row, **criteria)
        ]  # fmt: skip
        try:
            found = rows(**criteria)
        except OptionError:  # a licence or tag of which there is none, but one that is spelt nearly so
            found = []
        assert [(row.namespace, row.name) for row in found] == expected
        text = "".join(open_catalog().listing(Wanted(**criteria, installed=True)))
        assert [line.split()[0] for line in text.splitlines()] == [row.ref for row in found]
