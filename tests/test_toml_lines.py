from __future__ import annotations

from darkroom.toml_lines import parents, toml_lines

TEXT = '''\
# a comment
kind = "box"
prompts = [
  "[loop]",  # no table
  "two",
]

[loop]
note = """
steps = 1
[data]
"""
steps = 2
inner = { lr = 1, "more here" = { x = 3 } }
a.b = 3
[loop.optimizers.x]
lr = 3
[[tools]]
width = 1
[tools.tip]
size = 1
[[tools]]
width = 2
[[tools.parts]]
[[tools.parts]]
name = "b"
'''


def test_each_key_is_found_where_it_begins() -> None:
    lines = TEXT.split("\n")
    found = toml_lines(TEXT)
    begins = {
        "kind": "kind", "prompts": "prompts", "prompts[1]": "prompts", "loop": "[loop]", "loop.note": "note",
        "loop.steps": "steps = 2", "loop.inner.lr": "inner", "loop.inner.more here.x": "inner", "loop.a.b": "a.b",
        "loop.optimizers.x": "[loop.opt", "loop.optimizers.x.lr": "lr = 3", "tools[0].width": "width = 1",
        "tools[0].tip.size": "size", "tools[1].width": "width = 2", "tools[1].parts[1].name": "name",
    }  # fmt: skip
    assert all(lines[found[key] - 1].startswith(text) for key, text in begins.items())
    assert "data" not in found


def test_what_a_key_stands_in() -> None:
    assert list(parents("tools[1].parts.x[0]")) == ["tools[1].parts.x[0]", "tools[1].parts.x", "tools[1].parts",
                                                    "tools[1]", "tools"]  # fmt: skip
    assert list(parents("")) == []


def test_names_of_what_is_no_key_end_too() -> None:
    for name in ("loop.", ".", "[", "a[", "]", "a]", "a[x]", "..", "a.[0]."):
        found = list(parents(name))
        assert found[:1] == [name]
