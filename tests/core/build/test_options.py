"""Options are held against the published schema before any model code is imported."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from zoo.build.options import check_options, merge_spellings
from zoo.errors import OptionError
from zoo.models.config import ModelConfig, SpellingWarning


class Config(ModelConfig):
    num_classes: int = Field(1000, ge=0)
    depth: int = 50
    image_size: int | tuple[int, int] | None = None
    drop_rate: float = Field(0.0, ge=0, le=1)


SCHEMA = Config.model_json_schema()


def test_a_misspelt_option_gets_a_suggestion() -> None:
    with pytest.raises(OptionError, match="did you mean `num_classes`") as caught:
        check_options({"clases": 5}, SCHEMA, "cnn/resnet50@1")
    assert caught.value.fix == "num_classes=…"


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"num_classes": -1}, "num_classes"),
        ({"num_classes": "ten"}, "num_classes"),
        ({"drop_rate": 1.5}, "drop_rate"),
        ({"image_size": "large"}, "image_size"),
        ({"image_size": [1, 2, 3]}, "image_size"),
        ({"depth": None}, "depth"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_bounds_is_refused(options: dict[str, Any], at: str) -> None:
    with pytest.raises(OptionError, match=at):
        check_options(options, SCHEMA, "cnn/resnet50@1")


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"num_classes": -1}, "num_classes=0, or more"),
        ({"drop_rate": 1.5}, "drop_rate=1"),
        ({"num_classes": "ten"}, "num_classes=1000"),
        ({"depth": None}, "depth=50"),
        ({"image_size": "large"}, None),
    ],
    ids=str,
)
def test_a_refused_value_comes_with_one_that_may_be(options: dict[str, Any], fix: str | None) -> None:
    for refused in (lambda: check_options(options, SCHEMA, "cnn/resnet50@1"), lambda: Config.of(options, {})):
        with pytest.raises(OptionError) as caught:
            refused()
        assert caught.value.fix is fix is None or str(caught.value.fix).startswith(str(fix))


def test_the_bound_of_one_of_many_values_is_not_offered_for_all_of_them() -> None:
    class Many(ModelConfig):
        shares: tuple[Annotated[float, Field(ge=0)], ...] = (0.5, 1.0)

    with pytest.raises(OptionError) as caught:
        Many.of({"shares": (0.5, -1)}, {})
    assert caught.value.fix == "shares=(0.5, 1.0)"


def test_good_values_pass_tuples_included() -> None:
    check_options({"num_classes": 0, "image_size": (320, 256), "drop_rate": 0.1}, SCHEMA, "cnn/resnet50@1")


def test_spellings_of_other_zoos_are_understood_and_ours_is_named() -> None:
    named: dict[str, Any] = {"num_classes": None, "in_chans": None, "checkpoint": None}
    with pytest.warns(SpellingWarning) as warned:
        merged, rest = merge_spellings(named, {"classes": 5, "in_channels": 1, "drop_rate": 0.1})
    assert merged == {"num_classes": 5, "in_chans": 1, "checkpoint": None}
    assert rest == {"drop_rate": 0.1}
    assert "`num_classes`" in str(warned[0].message)
    assert "`in_chans`" in str(warned[1].message)


def test_one_idea_in_two_spellings_is_refused() -> None:
    with pytest.warns(SpellingWarning), pytest.raises(OptionError, match="given twice"):
        merge_spellings({"num_classes": 5}, {"classes": 6})


def test_a_config_takes_a_mapping_keywords_or_a_config() -> None:
    assert Config.of({"depth": 18}, {}) == Config.of(None, {"depth": 18}) == Config.of(Config(depth=18), {})
    assert Config.of(Config(depth=18), {"num_classes": 3}) == Config(depth=18, num_classes=3)
    assert Config.of(Config(depth=34).to_dict(), {}) == Config(depth=34)


def test_a_config_is_frozen_and_refuses_what_it_does_not_know() -> None:
    with pytest.raises(OptionError, match="did you mean `depth`"):
        Config.of({"dept": 18}, {})
    with pytest.raises(OptionError, match="drop_rate"):
        Config.of({"drop_rate": 3}, {})
    with pytest.raises(OptionError, match="a mapping"):
        Config.of([("depth", 18)], {})  # type: ignore[arg-type]  # the wrong type is the point
    with pytest.raises(Exception, match="frozen"):
        Config().depth = 3  # type: ignore[misc]  # assigning to a frozen field is the point
