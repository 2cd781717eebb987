"""
The documentation as a site: `nox -s docs`, or `sphinx-build -W -n docs docs/_build`.

The pages are Markdown that GitHub shows as well, so what only the site needs is done here: the navigation is
read from the tables of index.md, and single backticks in docstrings become code, or a link to what they name.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import beaconhq
from beaconhq.cli import make_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "beaconhq"
author = "Skyware LLC"
copyright = "Skyware LLC"  # noqa: A001 - Sphinx's name
version = release = beaconhq.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

# -- Markdown ---------------------------------------------------------------------------

#: Headings have the anchors that GitHub gives them.
myst_heading_anchors = 4
copybutton_prompt_text = "$ "

# -- docstrings -------------------------------------------------------------------------

#: Made soft below: a name that we do not document stays code.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
#: What others define (there is no internet to look it up in), and what is private.
nitpick_ignore = [("py:class", "beaconhq.options.Secret")]  # how we keep the key; nobody else makes one
nitpick_ignore_regex = [(r"py:.*", r"(?!beaconhq\.).*"), (r"py:.*", r".*\._\w+")]

# -- the site ---------------------------------------------------------------------------

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"beaconhq {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b57d0", "color-brand-content": "#0b57d0"},
    "dark_css_variables": {"color-brand-primary": "#8ab4f8", "color-brand-content": "#8ab4f8"},
}


class CommandHelp(SphinxDirective):
    """Show what `--help` prints, for the command and each subcommand, under a heading each."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return list(_help_sections(make_parser()))


def _help_sections(parser: argparse.ArgumentParser) -> Iterator[nodes.section]:
    text = parser.format_help()
    section = nodes.section(ids=[nodes.make_id(parser.prog)])
    section += nodes.title("", "", nodes.literal(parser.prog, parser.prog))
    section += nodes.literal_block(text, text, language="text")
    yield section
    for action in parser._actions:  # noqa: SLF001 - the only way to the subcommands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for each in action.choices.values():
                yield from _help_sections(each)


def add_navigation(_: Sphinx, document: str, source: list[str]) -> None:
    """Turn each section of the map into a part of the navigation, in the order of its table."""
    if document != "index":
        return
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        caption = section.partition("\n")[0]
        pages = re.findall(r"^\| \[[^\]]+\]\(([^)#]+)\.md\)", section, re.MULTILINE)
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def shape_docstring(_: Sphinx, what: str, __: str, ___: object, ____: object, lines: list[str]) -> None:
    """Link the pages that a docstring names by their path, and let its indented lines be code."""
    # A module's docstring is for those who read the code.
    shown = [] if what == "module" else lines
    shaped: list[str] = []
    for line in shown:
        if line.startswith("    ") and shaped[-2:] and not shaped[-1] and shaped[-2][:1] not in (" ", "-"):
            shaped += ["::", ""]
        shaped.append(re.sub(r"\bdocs/([\w/-]+)\.md\b", r":doc:`/\1`", line))
    lines[:] = shaped


def link_or_leave(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Link a docstring's backticks to the class that they name, wherever that is; others stay code."""
    if node.get("reftype") != "obj":
        return None
    python, target = env.domains["py"], node["reftarget"]
    named = [name for name in python.objects if target[:1].isupper() and f".{name}".endswith(f".{target}")]
    # One class may be listed by two names: where it is defined, and where it is imported from.
    found = {python.objects[name].node_id: name for name in named}
    if len(found) != 1:
        return content
    (name,) = found.values()
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.add_directive("command-help", CommandHelp)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", shape_docstring)
    app.connect("missing-reference", link_or_leave)
