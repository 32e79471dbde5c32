"""Laws of the data's own labels."""

from evaluation.features.labels import UNKNOWN, class_head, expected_of_prompt, expected_values, heads_of

KINDS = ("circle", "square")
ATTRIBUTES = {"kind": ["circle", "square"], "colour": ["red", "dark blue"], "always": ["same"]}


def test_attributes_with_two_values_become_heads() -> None:
    heads = heads_of(KINDS, ATTRIBUTES)
    assert heads == {"colour": ("red", "dark blue"), "kind": KINDS}
    assert class_head(heads, KINDS) == "kind"


def test_classes_alone_become_one_head() -> None:
    heads = heads_of(KINDS, None)
    assert heads == {"class": KINDS}
    assert class_head(heads, KINDS) == "class"


def test_unlabelled_data_has_no_heads() -> None:
    assert heads_of(None, None) == {}
    assert class_head({}, None) is None


def test_a_class_is_a_label_of_its_head_alone() -> None:
    heads = heads_of(KINDS, ATTRIBUTES)
    assert expected_values(heads, KINDS, 1, None) == [UNKNOWN, 1]
    assert expected_values(heads, KINDS, None, {"colour": "dark blue"}) == [1, UNKNOWN]
    assert expected_values(heads, KINDS, None, None) == [UNKNOWN, UNKNOWN]


def test_a_prompt_asks_for_the_one_value_it_names() -> None:
    heads = heads_of(KINDS, ATTRIBUTES)
    assert expected_of_prompt(heads, "A Dark Blue square") == [1, 1]
    assert expected_of_prompt(heads, "a red circle on a dark blue ground") == [UNKNOWN, 0]
    assert expected_of_prompt(heads, "circles, hundreds") == [UNKNOWN, UNKNOWN]


def test_heads_that_share_values_are_told_apart_by_the_thing_they_describe() -> None:
    colours = ("red", "blue", "green")
    heads = {"background_colour": colours, "colour": colours, "kind": ("bar", "ring")}
    assert expected_of_prompt(heads, "a small red ring on a striped blue background") == [1, 0, 1]
    assert expected_of_prompt(heads, "a green bar on a green background") == [2, 2, 0]
    assert expected_of_prompt(heads, "a red ring") == [UNKNOWN, 0, 1]
    assert expected_of_prompt(heads, "a ring on a blue background") == [1, UNKNOWN, 1]
    assert expected_of_prompt(heads, "a red or blue ring") == [UNKNOWN, UNKNOWN, 1]


def test_every_caption_of_the_shapes_says_what_they_are() -> None:
    from demo.drawing import attribute_values, caption_of

    values = attribute_values()
    heads = {name: tuple(values[name]) for name in sorted(values)}
    for step in range(40):
        attributes = {name: names[step * 7 % len(names)] for name, names in values.items()}
        expected = [
            UNKNOWN if name == "background" else heads[name].index(attributes[name]) for name in heads
        ]
        assert expected_of_prompt(heads, caption_of(attributes)) == expected
