"""Generate the site's derived pages at every build (MkDocs hooks, named in mkdocs.yml).

The home page is README.md; the module list and the API pages come from the docstrings, the command reference
from the parsers, the examples' page from the scripts. Links that leave the site become plain words.
"""

from __future__ import annotations

import ast
import io
import posixpath
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = ("ternac", "model", "hdl", "sim", "host")
"""The code, in the order in which a model passes through it."""

OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "model/zoo/commands/card.md": "models/commands.md",
    "model/zoo/prose/card.md": "models/prose.md",
    "model/zoo/shakespeare/card.md": "models/shakespeare.md",
    "model/zoo/shakespeare-small/card.md": "models/shakespeare-small.md",
}
"""Pages that lie elsewhere in the repository: path there to path on the site."""

FOR_TESTS = re.compile(r"^<!-- run\n.*?^-->\n", re.M | re.S)
"""Comments that tell the tests how to run what follows (tests/repository/pages.py)."""

LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")


def packages() -> dict[str, Path]:
    """Every package (``ternac.program``) and its folder, in the order of FOLDERS."""
    found = {}
    for folder in FOLDERS:
        for init in sorted((ROOT / folder).rglob("__init__.py")):  # does not follow the links inside ternac/
            parts = init.parent.relative_to(ROOT).parts
            found[".".join(parts if folder == "ternac" else ("ternac", *parts))] = init.parent
    return found


def modules(folder: Path) -> list[Path]:
    """The modules of a package but ``__init__`` and ``__main__``."""
    return [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]


def first_sentence(path: Path) -> str:
    """The first paragraph of the module's docstring, in one line; empty where there is none."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(doc.partition("\n\n")[0].split()).replace("|", "\\|")


def module_list() -> str:
    """The page of all modules: a table for each package, with the first sentence of each docstring."""
    text = "# Modules\n\nEvery package and module, with the first sentence of its docstring.\n"
    for package, folder in packages().items():
        text += f"\n## `{folder.relative_to(ROOT)}/`\n\n{first_sentence(folder / '__init__.py')}\n"
        if modules(folder):
            text += f"\nAPI: [{package}](api/{package}.md)\n\n| module | what it does |\n|---|---|\n"
            text += "".join(f"| `{file.name}` | {first_sentence(file)} |\n" for file in modules(folder))
    return text


def command_reference() -> str:
    """The page of all commands: what each ``--help`` prints."""
    from ternac.cli.main import VERBS, main

    def help_of(*words: str) -> str:
        with redirect_stdout(io.StringIO()) as out:
            main([*words, "--help"])
        return out.getvalue().strip()

    text = "# Commands\n\nWhat `ternac VERB --help` prints, for every verb.\n"
    benches = re.findall(r"^    (\w+) ", help_of("bench").partition("example:")[0], re.M)
    for words in [*([verb] for verb in VERBS), *(["bench", name] for name in benches)]:
        text += f"\n## {' '.join(words)}\n\n```text\n{help_of(*words)}\n```\n"
    return text


def api_page(package: str, folder: Path) -> str:
    """The page of one package: its modules as mkdocstrings renders them."""
    return f"# {package}\n\n" + "".join(f"::: {package}.{file.stem}\n\n" for file in modules(folder))


def facade() -> str:
    """The page of the names that the package itself exports."""
    import ternac

    things = [getattr(ternac, name) for name in ternac.__all__ if not name.startswith("_")]
    text = "# Python\n\nWhat `from ternac import ...` gives; `__version__` is the installed version.\n\n"
    return text + "".join(f"::: {thing.__module__}.{thing.__qualname__}\n\n" for thing in things)


def examples() -> str:
    """The examples' page, and behind it the scripts themselves."""
    folder = ROOT / "docs" / "examples"
    text = (folder / "README.md").read_text()
    for script in sorted(folder.glob("*.py")):
        text += f"\n## {script.name}\n\n```python\n{script.read_text()}```\n"
    return text


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and those that lie outside ``docs/``."""
    from mkdocs.structure.files import File

    made = {"modules.md": module_list(), "commands.md": command_reference(), "python.md": facade()}
    made["examples/README.md"] = examples()
    made |= {
        f"api/{name}.md": api_page(name, folder) for name, folder in packages().items() if modules(folder)
    }
    made |= {page: (ROOT / path).read_text() for path, page in OUTSIDE.items()}
    for uri, text in made.items():
        if uri in files.src_uris:
            files.remove(files.src_uris[uri])
        files.append(File.generated(config, uri, content=text))
    for name in ("prose", "shakespeare", "shakespeare-small"):
        picture = str(ROOT / "model" / "zoo" / name / "curve.png")
        files.append(File.generated(config, f"models/{name}-curve.png", abs_src_path=picture))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links at the pages of the site; a link to a file that the site has not becomes its words."""
    inside = {page: path for path, page in OUTSIDE.items()}
    uri = page.file.src_uri
    here = inside.get(uri, f"docs/{uri}")
    if uri.startswith("api/") or uri in ("modules.md", "commands.md", "python.md"):
        return markdown

    def target(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if not path:
            return match[0]
        full = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        picture = re.fullmatch(r"model/zoo/([\w-]+)/curve\.png", full)
        if picture:
            full = f"docs/models/{picture[1]}-curve.png"
        site = OUTSIDE.get(full) or (full.removeprefix("docs/") if full.startswith("docs/") else None)
        if site is None or site not in files.src_uris:
            return "](DROP)"
        return f"]({posixpath.relpath(site, posixpath.dirname(uri) or '.')}{anchor})"

    return re.sub(r"\[([^\[\]]*)\]\(DROP\)", r"\1", LINK.sub(target, FOR_TESTS.sub("", markdown)))


def on_page_content(html: str, **_: Any) -> str:
    """Drop reStructuredText roles (``:class:``) in front of code: Markdown would show them."""
    return re.sub(r":(?:class|meth|func|mod|data|attr|exc):(?=<code)", "", html)
