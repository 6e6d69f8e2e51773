import pytest

from darkroom.errors import InputError
from darkroom.registry import Registry


@pytest.fixture
def tools() -> Registry[int]:
    registry: Registry[int] = Registry("tool")
    registry.add("big hammer", 1, "sledge")
    registry.add("saw", 2)
    return registry


@pytest.mark.parametrize("name", ["big hammer", "Big_Hammer", "BIG-HAMMER", "sledge"])
def test_spelling_and_aliases_reach_the_same_entry(tools: Registry[int], name: str) -> None:
    assert tools[name] == 1
    assert name in tools
    assert tools.name(name) == "big hammer"


def test_an_unknown_name_lists_the_known_ones_nearest_first(tools: Registry[int]) -> None:
    with pytest.raises(InputError, match=r"unknown tool 'saww'; known are: saw, big hammer"):
        tools["saww"]


def test_a_name_is_given_once(tools: Registry[int]) -> None:
    with pytest.raises(ValueError, match="registered twice"):
        tools.add("other", 3, "saw")
    assert list(tools) == ["big hammer", "saw"]
    assert len(tools) == 2
