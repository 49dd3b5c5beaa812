"""Publish a model: make its folder, run its example, and write or upload it. Imports no torch until then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from x2kit.errors import X2KitError
from x2kit.io.atomic import atomic_folder, format_bytes
from x2kit.io.identity import own_version
from x2kit.plugin.loading.file_modules import is_path
from x2kit.publishing.card import Choices, write_card
from x2kit.publishing.facts import Facts, read_facts
from x2kit.publishing.folder import (
    CARD,
    GENERATED,
    PreviousCard,
    fill_folder,
    read_previous,
    redacted_contents,
)
from x2kit.publishing.folder import write_card as store_card
from x2kit.publishing.snippet import IMAGE, execute, write_snippet
from x2kit.publishing.target import Target, parse_target
from x2kit.publishing.upload import Repository, inspect, upload

SHOWN_FILES = 3
MAX_SIDE = 1024
"""Longest side of a shipped example image, in pixels."""


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        address: name for `x2kit.load`: a directory or hf-hub:….
        url: of the commit or pull request; None for a directory or a dry run.
        files: sizes in bytes by name.
        card_kept: whether a card that a person wrote was kept; the generated one is then README.generated.md.
        messages: what the person should know: files left out, shortened paths, missing facts.
    """

    address: str
    url: str | None
    files: Mapping[str, int]
    card_kept: bool
    messages: tuple[str, ...]


def publish(
    source: str | Path,
    to: str | Path,
    *,
    licence: str | None = None,
    texts: Sequence[str] = (),
    image: str | Path | None = None,
    datasets: Mapping[str, str] | None = None,
    without_results: bool = False,
    private: bool = False,
    revision: str | None = None,
    pull_request: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    plugins: Sequence[str] = (),
    trust_plugins: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Publication:
    """Publish the weights of a run as a folder with a model card.

    Args:
        source: a run or weights directory.
        to: a directory, or hf-hub:ORGANISATION/NAME[@BRANCH].
        licence: of the weights, an identifier of the Hub such as "apache-2.0"; None leaves it out.
        texts: of the example in the card; by default two in English.
        image: of the example, shipped as example.png; by default the example draws one.
        datasets: data set of the Hub that was measured, by name of a task, "" for all others.
        without_results: publish a model that was not evaluated.
        private: create a private repository.
        revision: branch of the repository.
        pull_request: open a pull request.
        message: of the commit.
        dry_run: make the folder and run the example, but write and upload nothing.
        plugins: files and modules that may be imported in addition to installed plugins.
        trust_plugins: import every plugin that the directory names.
        say: called with each stage.
    Raises: X2KitError with what to do: no weights or results, results of other weights, a directory with other files,
        an example that fails, a Hub that refuses or cannot be reached. Nothing is published then.
    """
    target = parse_target(to, revision)
    _require_possible(target, private, pull_request, message)
    repository: Repository | None = None
    previous = PreviousCard()
    if target.directory is not None:
        previous = read_previous(target.directory)
    elif not dry_run:
        repository = inspect(target, private, pull_request)
        previous = repository.previous
    say(f"reading {source}")
    facts = read_facts(Path(source), plugins, trust_plugins)
    _require_results(facts, Path(source), without_results)
    choices = Choices(licence, dict(datasets or {}), own_version())
    with TemporaryDirectory(prefix="x2kit-publish-") as name:
        if target.directory is not None and not dry_run:
            place = target.directory.resolve()
            with atomic_folder(place) as folder:
                kept, messages = _write(folder, facts, target, previous, choices, texts, image, say)
                if read_previous(target.directory) != previous:
                    raise X2KitError(f"{target.directory}: has changed since it was read; publish again")
            return Publication(str(target.directory), None, _sizes(place), kept, messages)
        folder = Path(name) / target.name
        folder.mkdir()
        kept, messages = _write(folder, facts, target, previous, choices, texts, image, say)
        url = None
        if repository is not None:
            say(f"uploading {format_bytes(sum(_sizes(folder).values()))} to {target.address}")
            url = upload(
                folder, target, repository, private=private, pull_request=pull_request, message=message
            )
        return Publication(target.address, url, _sizes(folder), kept, messages)


def _require_possible(target: Target, private: bool, pull_request: bool, message: str | None) -> None:
    """Raise X2KitError for options of a repository beside a directory."""
    if target.directory is None:
        return
    given = {"--private": private, "--pr": pull_request, "--message": message is not None}
    if wrong := [option for option, value in given.items() if value]:
        raise X2KitError(
            f"{', '.join(wrong)}: only with --to hf-hub:ORGANISATION/NAME; {target.directory} is a directory"
        )


def _require_results(facts: Facts, source: Path, without_results: bool) -> None:
    if facts.results or without_results:
        return
    overlay = "" if facts.recipe.evaluation is not None else " --config EVALUATION.yaml"
    raise X2KitError(
        f"{source}: has no results (evaluation.json), so its card would say nothing about its quality\n"
        f"  measure it: x2kit evaluate {source}{overlay}\n"
        "  or publish it without: --without-results"
    )


def _write(
    folder: Path,
    facts: Facts,
    target: Target,
    previous: PreviousCard,
    choices: Choices,
    texts: Sequence[str],
    image: str | Path | None,
    say: Callable[[str], None],
) -> tuple[bool, tuple[str, ...]]:
    """Fill a folder. Returns: whether a person's card was kept, and messages."""
    redactor = redacted_contents(facts)
    left_out = facts.left_out | fill_folder(folder, facts, redactor, choices.datasets, choices.version)
    if image is not None:
        _ship_image(Path(image), folder / IMAGE)
    say("running the example of the card in a fresh process")
    files = [Path(name) for name in facts.recipe.plugins if is_path(name)]
    snippet = execute(write_snippet(facts, target, texts, image is not None), folder, target, files)
    card = write_card(facts, target, snippet, redactor, choices)
    kept = store_card(folder, card, previous, choices.version)
    messages = list(_left_out(left_out))
    messages += [
        f"not published: {plugin.kind} {plugin.name} ({plugin.detail}): plugins are code; the card names it"
        for plugin in facts.plugins
        if plugin.kind == "file"
    ]
    messages += [f"shortened: {before} -> {after}" for before, after in sorted(redactor.replaced.items())]
    if redactor.secrets:
        messages.append(f"removed {redactor.secrets} passwords or tokens from recipe and results")
    messages += [f"not recorded: {fact}" for fact in facts.missing]
    if choices.licence is None:
        messages.append("no licence: the card says so; choose one with --license")
    if facts.results and "" not in choices.datasets:
        messages.append(
            ".eval_results names the sources of the recipe, which are not data sets of the Hub; name one with --dataset"
        )
    if kept:
        messages.append(f"{CARD} was changed by a person and is kept; the new card is {GENERATED}")
    return kept, tuple(messages)


def _left_out(files: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each reason, with the files that it is about."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in files.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        yield f"not published: {', '.join(names[:SHOWN_FILES])}{more}: {reason}"


def _ship_image(source: Path, target: Path) -> None:
    """Write an image again as PNG, without metadata such as places; raises X2KitError if it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(source) as opened:
            image = ImageOps.exif_transpose(opened).convert("L" if opened.mode == "L" else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise X2KitError(f"--image {source}: cannot be read as an image: {error}") from error
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image.info.clear()
    image.save(target, "PNG")


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
