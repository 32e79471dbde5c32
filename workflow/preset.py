"""Take a preset: write presets/NAME.yaml in full as params.yaml, unless that has uncommitted edits. Its data must exist.

python -m workflow.preset NAME [--source PATH] [--weights FOLDER]
python -m workflow.preset NAME --out FILE       write it to FILE instead of params.yaml
python -m workflow.preset NAME --save           the reverse: write the differences of params.yaml to presets/NAME.yaml
python -m workflow.preset                       only check that the data params.yaml reads exists

A preset holds its differences from a base (workspace/bases.py). It is written in the form that DVC uses for `-S`, so that a
diff of params.yaml shows only the settings that changed.
"""

import io
import json
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from workflow.lacking import WEIGHTS, folder_and_pattern, missing, weights_in
from workspace.bases import BASE, whole
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path
from workspace.settings import read_tree
from workspace.stores.addresses import is_url

PRESETS, PARAMS = Path("presets"), Path("params.yaml")
NO_SCM = re.compile(r"^\s*no_scm\s*=\s*true", re.MULTILINE)
"""In DVC's configuration: it works without Git."""
WHOLE = "shapes.yaml"
"""The preset with every setting, equal to the committed params.yaml."""
PARSED = lru_cache(maxsize=32)(lambda text: _yaml().load(text))  # reading the common base takes 0.1 s


def take(name: str, source: str | None = None, weights: str | None = None) -> None:
    """Write the preset to params.yaml, with images and weights from other folders if these are named.

    Raises:
        UserError: no such preset, a mistake in it, missing data, or edits that would be lost. Nothing is changed then.
    """
    # Path's would take one slash out of a URL
    source, weights = (path and os.path.expanduser(path) for path in (source, weights))  # noqa: PTH111
    wanted = validated(name, source, weights)
    lacking = missing(wanted, f"presets/{name}.yaml", f"PRESET={name} ")
    if lacking:
        raise UserError(lacking)
    present = PARAMS.read_bytes().decode("utf-8", "replace") if PARAMS.is_file() else wanted
    if present != wanted and _edited() and not _is_a_preset(present):
        raise UserError(
            f"params.yaml has uncommitted edits: keep them by `git commit -m mine params.yaml`, or drop them by "
            f"`git checkout params.yaml`; then `make repro PRESET={name}` (`make repro` runs params.yaml as it is)"
        )
    with atomic_path(PARAMS) as temporary:
        temporary.write_text(wanted, encoding="utf-8")


def validated(name: str, source: str | None = None, weights: str | None = None) -> str:
    """`rendered`, with every setting checked, also across sections.

    Raises:
        UserError: the first mistake, in one line.
    """
    from workflow.params import load_params  # imports all sections, which takes seconds

    text = rendered(name, source, weights)
    values = {} if source is None else _place_of(source)
    load_params(
        PRESETS / f"{name}.yaml",
        [f"shard.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()],
    )
    return text


def rendered(name: str, source: str | None = None, weights: str | None = None, folder: Path = PRESETS) -> str:
    """A preset as a params file with every setting, below the preset's own first comment.

    Args:
        name: stem of a file in the folder.
        source: where the images are, instead of the preset's source.
        weights: the folder of its weights files, instead of the preset's.
        folder: folder of the presets.

    Raises:
        UserError: no such preset, not YAML, or a setting that its base does not have.
    """
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise UserError(f"there is no preset {name}; expected one of {', '.join(names)}")
    path = folder / f"{name}.yaml"
    tree = whole(path, _read(path), _read)
    if source is not None and isinstance(tree.get("shard"), Mapping):
        tree["shard"].update(_place_of(source))
    if weights is not None:
        _move_weights(tree, Path(weights))
    _plain_lists(tree)
    first, body = _first_comment(path.read_text(encoding="utf-8"))[0], _first_comment(_dumped(tree))[1]
    return first + body


def _read(path: Path) -> Any:
    """A file, not to be changed, as ruamel reads it, with its comments and the spelling of numbers."""
    from ruamel.yaml import YAMLError

    try:
        tree = PARSED(path.read_text(encoding="utf-8"))
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(tree, Mapping):
        raise UserError(f"{path} holds no sections; expected a mapping like {PRESETS}/{WHOLE}")
    return _plain(tree) if BASE in tree else tree  # keep a base's comments, which describe the settings


def _yaml() -> Any:
    """A YAML reader and writer configured like DVC's (dvc/utils/serialize/_yaml.py)."""
    from ruamel.yaml import YAML

    parser = YAML()
    parser.default_flow_style = False
    return parser


def _dumped(tree: Any) -> str:
    text = io.StringIO()
    _yaml().dump(tree, text)
    return text.getvalue()


def _plain_lists(node: Any) -> None:
    """Put lists and mappings in block style, one value per line without comments, as DVC writes what it sets."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            if hasattr(value, "fa"):
                value.fa.set_block_style()
            _plain_lists(value)
        elif isinstance(value, list):
            node[key] = _plain(value)


def _plain(value: Any) -> Any:
    """The value without ruamel's comments and styles; numbers keep their spelling."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _first_comment(text: str) -> tuple[str, str]:
    """A file's leading comment, and the rest of the file."""
    end = re.match(r"(#[^\n]*\n)*", text)
    assert end is not None
    return text[: end.end()], text[end.end() :]


def save(name: str) -> None:
    """Write the differences between params.yaml and the full preset to presets/NAME.yaml.

    Raises:
        UserError: the file exists, or params.yaml has a mistake or lacks a setting; nothing is written then.
    """
    from workflow.params import load_params

    path = PRESETS / f"{name}.yaml"
    if path.exists() or path.parent != PRESETS:
        raise UserError(f"{path} exists, or is not a file of {PRESETS}/: save under another name")
    load_params(PARAMS)
    own, base = _plain(_read(PARAMS)), _plain(_read(PRESETS / WHOLE))
    changes = {BASE: WHOLE} | _differences(own, base)
    if whole(path, changes, _read) != own:
        raise UserError(
            f"{PARAMS} lacks settings that {PRESETS}/{WHOLE} has: `git diff --no-index {PRESETS}/{WHOLE} {PARAMS}` shows them"
        )
    sections = [_dumped({section: value}) for section, value in changes.items()]
    path.write_text(
        f"# {name}: what it is for, and why each value differs\n" + "\n".join(sections), encoding="utf-8"
    )


def _differences(own: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The values in `own` that differ from `base`, in their mappings."""
    found: dict[str, Any] = {}
    for name, value in own.items():
        inner = base.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and inner:
            nested = _differences(value, inner)
            found |= {name: nested} if nested else {}
        elif value != inner:
            found[name] = value
    return found


def _move_weights(node: Any, folder: Path) -> None:
    """Change every weights file's path to this folder."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            _move_weights(value, folder)
        elif isinstance(value, str) and value.endswith(WEIGHTS):
            node[key] = str(folder / Path(value).name)


def _place_of(source: str) -> dict[str, str]:
    """The settings for a source; a pattern is split into its folder, which DVC watches, and the glob below it."""
    parts = folder_and_pattern(source)
    return {"source": source} if parts is None else {"source": parts[0], "tars": parts[1]}


def _is_a_preset(text: str) -> bool:
    """Whether a params file is what `take` writes for some preset, with data from any folder."""
    try:
        tree = yaml.safe_load(text)
        source = "/".join(str(tree["shard"][key]) for key in ("source", "tars") if tree["shard"].get(key))
    except (yaml.YAMLError, KeyError, TypeError):
        return False
    folders = {str(Path(path).parent) for path in weights_in(tree)}
    given = source, folders.pop() if len(folders) == 1 else None
    for path in PRESETS.glob("*.yaml"):
        first = _first_comment(path.read_text(encoding="utf-8"))[0]
        with suppress(UserError):
            if text.startswith(first) and text in (rendered(path.stem), rendered(path.stem, *given)):
                return True
    return False


def _edited() -> bool:
    """Whether params.yaml differs from git's version or is not in git, so that overwriting it would lose edits."""
    command = ["git", "status", "--porcelain", "--ignored", "--", str(PARAMS)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode != 0 or bool(done.stdout)


def main() -> None:
    """The command line."""
    parser = parser_of("workflow.preset", __doc__)
    parser.add_argument("name", nargs="?", help="stem of a file in presets/")
    parser.add_argument(
        "--source", help="where the images are, a path or a URL, instead of the preset's shard.source"
    )
    parser.add_argument("--weights", help="the folder of the weights files, instead of the preset's")
    parser.add_argument("--out", type=Path, help="the file to write, instead of params.yaml")
    parser.add_argument("--save", action="store_true", help="write presets/NAME.yaml from params.yaml")
    asked = parser.parse_args()
    if asked.save and asked.name is None:
        parser.error("--save needs the NAME of the preset to write")
    with mistakes_in_one_line():
        if asked.source is not None and is_url(asked.source):
            from shards.list import listing_made  # imports the readers of sources

            asked.source = listing_made(asked.source)
        if asked.out is None and not asked.save:
            require_repository(Path.cwd())
        if asked.name is None:
            _look(asked.source, asked.weights, asked.out)
        elif asked.save:
            save(asked.name)
        elif asked.out is not None:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            asked.out.write_text(validated(asked.name, asked.source, asked.weights), encoding="utf-8")
        else:
            take(asked.name, asked.source, asked.weights)


def require_repository(folder: Path) -> None:
    """UserError where DVC would end with `is not a git repository`: in an archive of the code that was downloaded."""
    dvc = folder / ".dvc"
    if not dvc.is_dir() or any((above / ".git").exists() for above in (folder, *folder.parents)):
        return
    configs = (dvc / name for name in ("config", "config.local"))
    if not any(NO_SCM.search(path.read_text(encoding="utf-8")) for path in configs if path.is_file()):
        raise UserError(
            "DVC needs a Git repository, which a downloaded archive is not: type `git init`, or clone it"
        )


def _look(*options: object) -> None:
    """Check that the data params.yaml reads exists.

    Raises:
        UserError: it does not, or options were given that need a preset.
    """
    if any(option is not None for option in options):
        raise UserError(
            "SOURCE and WEIGHTS go with a preset: `make repro PRESET=flowers SOURCE=/path/to/images`; else edit params.yaml"
        )
    if PARAMS.is_file():
        read_tree(PARAMS)
        if lacking := missing(PARAMS.read_text(encoding="utf-8"), str(PARAMS), ""):
            raise UserError(lacking)


if __name__ == "__main__":
    main()
