"""Write the model card as Markdown, from the facts of a run. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from x2kit.io.run_directory import identifying_file
from x2kit.publishing.facts import Facts, Part
from x2kit.publishing.limits import limits_of
from x2kit.publishing.redaction import Redactor
from x2kit.publishing.results import tables
from x2kit.publishing.snippet import Snippet
from x2kit.publishing.target import HUB, Target
from x2kit.publishing.training import reproduction, settings_of, training_data, training_facts

HOMEPAGE_TAGS = ("x2kit", "x2-vlm", "vision-language")
UNKNOWN = "not recorded"
ABILITIES = {
    "itc": "embeds images and texts in one space, for search and zero-shot classification",
    "itm": "computes the probability that a text describes an image",
    "bbox": "locates a text as a box in an image",
    "answers": "chooses among the classes that it was trained on",
    "decoder": "ranks or writes texts, such as answers",
    "frames": "reads videos as several frames",
}
"""Parts of a model by what a user does with them."""
PIPELINES = {
    "answer": "visual-question-answering",
    "description": "image-to-text",
    "itc": "zero-shot-image-classification",
}
"""Tags of the Hub by what the tasks produce, or by a head."""
_CODE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class Choices:
    """What the person decides.

    Attributes:
        licence: of the weights, an identifier of the Hub; None if not chosen.
        datasets: data sets of the Hub by name of a task, "" for all others.
        version: of x2kit.
    """

    licence: str | None
    datasets: Mapping[str, str]
    version: str


def write_card(facts: Facts, target: Target, snippet: Snippet, redactor: Redactor, choices: Choices) -> str:
    """Write the whole card.

    Args:
        facts: of the model.
        target: where it is published to.
        snippet: the executed example.
        redactor: knows the texts of recipe and results.
        choices: of the person.
    """
    parts = [
        f"# {target.name}",
        *_introduction(facts, redactor),
        "## Use",
        *_use(facts, snippet, choices),
        "## Model",
        *_model(facts, redactor),
        "## Training data",
        *training_data(facts, redactor),
        "## Languages",
        *_languages(facts),
        "## Results",
        *_results(facts, redactor),
        "## Limits",
        "\n".join(f"- {redactor.text(text)}" for text in limits_of(facts)),
        "## Training",
        *training_facts(facts),
        "## Reproduce",
        *reproduction(facts, target, redactor, choices.version),
        "## Licence",
        *_licence(facts, choices),
        "## Card",
        *_about_card(facts, choices),
    ]
    return f"---\n{front_matter(facts, choices)}\n---\n\n" + "\n\n".join(parts) + "\n"


def front_matter(facts: Facts, choices: Choices) -> str:
    """Write the metadata of the Hub through `huggingface_hub.ModelCardData`."""
    from huggingface_hub import ModelCardData

    images, texts, measured = facts.languages()
    codes = [re.split(r"[-_]", code)[0].lower() for code in (*images, *texts, *measured)]
    languages = list(dict.fromkeys(code for code in codes if _CODE.fullmatch(code)))
    base = [part.published.name for part in facts.parts if part.published and part.published.on_hub]
    if (start := facts.recipe.model.init_from) is not None and start.startswith(HUB):
        base.append(start.removeprefix(HUB).partition("@")[0])
    datasets = [*choices.datasets.values(), *_hub_datasets(facts.recipe.model_dump(mode="json"))]
    tasks = {
        str(task.get("class_path")).lower()
        for result in facts.results.values()
        for task in (result.get("tasks") or {}).values()
    }
    data = ModelCardData(
        language=languages or None,
        license=choices.licence,
        library_name="x2kit",
        base_model=list(dict.fromkeys(base)) or None,
        datasets=list(dict.fromkeys(datasets)) or None,
        pipeline_tag=_pipeline(facts),
        tags=[*HOMEPAGE_TAGS, *(["multilingual"] if len(languages) > 1 else []), *sorted(tasks)],
    )
    return data.to_yaml().strip()


def _hub_datasets(content: Any) -> Iterator[str]:
    """Yield the data sets of the Hub in the locations of a recipe, hf://datasets/ORGANISATION/NAME/…"""
    if isinstance(content, str):
        yield from re.findall(r"hf://datasets/([\w.-]+/[\w.-]+)", content)
    for item in (
        content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    ):
        yield from _hub_datasets(item)


def _pipeline(facts: Facts) -> str | None:
    evaluation = facts.recipe.evaluation
    tasks = [*(evaluation.tasks.values() if evaluation else ()), *(stream.task for stream in facts.streams)]
    produced = next((task.produces for task in tasks if getattr(task, "produces", None)), None)
    return PIPELINES.get(produced or next((head for head in facts.heads if head in PIPELINES), ""))


def _introduction(facts: Facts, redactor: Redactor) -> Iterator[str]:
    abilities = [ABILITIES[head] for head in facts.heads if head in ABILITIES]
    made = "assembled and trained with x2kit" if facts.versions else "in the format of x2kit"
    yield (
        f"A vision-language model of {_count(facts.parameters)} parameters, {made}. It "
        f"{_join(abilities) if abilities else 'encodes images and texts'}."
    )
    if description := facts.recipe.description.strip():
        yield f"Description in its recipe: {redactor.text(description)}"


def _use(facts: Facts, snippet: Snippet, choices: Choices) -> Iterator[str]:
    yield f"Install x2kit {choices.version} (`pip install x2kit=={choices.version}`), then:"
    if facts.plugins:
        yield _plugins(facts)
    yield f"```python\n{snippet.python}```"
    yield "It printed, in a fresh process before this card was published:"
    yield f"```text\n{snippet.python_output.rstrip()}\n```"
    if snippet.shell is not None:
        matches = snippet.shell.startswith("x2kit match")
        columns = "; the columns are probability, similarity, image and text" if matches else ""
        yield f"The same image in the shell{columns}:"
        yield f"```bash\n{snippet.shell}\n```"
        yield f"```text\n{snippet.shell_output.rstrip()}\n```"
    yield "Last digits may differ on other processors."


def _plugins(facts: Facts) -> str:
    """Say which plugins a reader must have; their code is not in the repository."""
    lines = ["The model needs plugins that are not part of x2kit. Their code is not published here:", ""]
    for plugin in facts.plugins:
        how = {
            "distribution": "install it with pip",
            "module": "install it, and read it before you pass its name",
            "file": "get it from the author, read it, and pass its path",
        }[plugin.kind]
        lines.append(f"- {plugin.kind} `{plugin.name}`, {plugin.detail}: {how}")
    return "\n".join(lines)


def _model(facts: Facts, redactor: Redactor) -> Iterator[str]:
    lines = [
        "| part | component | from | parameters | settings | initial weights |",
        "|---|---|---|---:|---|---|",
        *(_part_row(part, facts, redactor) for part in facts.parts),
    ]
    rest = facts.parameters - sum(part.parameters for part in facts.parts)
    built = ", ".join(head for head in facts.heads if head != "frames") or "none"
    lines.append(f"| heads | {built} | x2kit | {rest:,} | | {_without_published(facts)} |")
    yield "\n".join(lines)
    image = facts.image
    about = f"Images: {image.get('size')} × {image.get('size')} pixels, {image.get('channels')} channels"
    width = "" if facts.width is None else f" Embeddings: {facts.width} numbers."
    resized = f"{image.get('interpolation')} interpolation"
    yield f"{about}, {resized}; `preprocessing.json` has mean and standard deviation.{width}"
    if facts.recipe.model.init_from is not None:
        yield _initialised(facts, redactor)


def _part_row(part: Part, facts: Facts, redactor: Redactor) -> str:
    return (
        f"| {part.role} | {part.component.component_name()} | {part.owner} | {part.parameters:,} | "
        f"{settings_of(part.component, redactor)} | {_origin(part, facts, redactor)} |"
    )


def _without_published(facts: Facts) -> str:
    if facts.recipe.model.init_from is not None:
        return "see below"
    return "random" if facts.versions else UNKNOWN


def _origin(part: Part, facts: Facts, redactor: Redactor) -> str:
    origin = part.published
    if origin is None:
        return _without_published(facts)
    name = redactor.text(origin.name)
    shown = f"[{name}](https://huggingface.co/{name})" if origin.on_hub else f"{name} (a local file)"
    return f"{shown}, revision {origin.revision or UNKNOWN}, licence {origin.licence or UNKNOWN}"


def _initialised(facts: Facts, redactor: Redactor) -> str:
    source = redactor.text(str(facts.recipe.model.init_from))
    if facts.initialisation is None:
        return f"Initialised from `{source}` (`model.init_from`); which tensors is not recorded."
    origins: dict[str, int] = {}
    for tensor in facts.initialisation["tensors"].values():
        origins[tensor["origin"]] = origins.get(tensor["origin"], 0) + 1
    counts = ", ".join(f"{count} {origin}" for origin, count in origins.items())
    return f"Initialised from `{source}` (`model.init_from`); tensors: {counts}. Its licence is not recorded."


def _languages(facts: Facts) -> Iterator[str]:
    images, texts, measured = facts.languages()
    if not facts.streams:
        yield "The languages of the training are not recorded."
    else:
        unknown = any(stream.languages is None for stream in facts.streams)
        rows = [
            f"- trained with images: {', '.join(images) or 'none known'}",
            f"- trained with texts only, so zero-shot for images: {', '.join(texts) or 'none'}",
        ]
        if unknown:
            rows.append("- some sources do not tell their languages before they are read")
        yield "\n".join(rows)
    if measured:
        yield f"Measured without any training data in the language: {', '.join(measured)}."


def _results(facts: Facts, redactor: Redactor) -> Iterator[str]:
    if not facts.results:
        yield "Not measured."
    for name, result in facts.results.items():
        data = result.get("data") or {}
        source = data.get("source") or {}
        yield (
            f"Split **{result.get('split')}** of {source.get('class_path', UNKNOWN)}, {data.get('records')} records, "
            f"fingerprint `{data.get('fingerprint')}` (`{name}`). Per cent; zero-shot: no image-text training data in "
            "the language."
        )
        found = list(tables(result))
        for table in found:
            yield f"### {table.title}"
            yield table.to_markdown()
            if table.notes:
                yield " ".join(redactor.text(note) for note in table.notes)
        if not found:
            yield f"The numbers of this task have no table; they are in `{name}`."
    yield _selected(facts)


def _selected(facts: Facts) -> str:
    chosen = facts.selection
    if chosen is not None:
        return (
            f"Weights: step {chosen['step']:,}, selected by {chosen['metric']} on split {chosen['split']} "
            f"({chosen['value']:.4g}), the best of {chosen['validations']} validations."
        )
    if facts.metrics:
        last = facts.metrics[-1]["step"]
        return f"Weights: those of the last step, {last:,}; no validation selected them."
    return "How the weights were selected is not recorded."


def _licence(facts: Facts, choices: Choices) -> Iterator[str]:
    if choices.licence is not None:
        yield f"The author publishes these weights under: {choices.licence}."
    else:
        yield "**No licence was chosen for these weights**, so the metadata has none; ask the author before use."
    known = [part for part in facts.parts if part.published is not None]
    if known:
        yield "Weights that they start from have licences of their own:"
        yield "\n".join(
            f"- {part.role}, {part.published.name}: {part.published.licence or UNKNOWN}"
            for part in known
            if part.published is not None
        )
    elif facts.recipe.model.init_from is None and facts.versions:
        yield "All encoders were trained from random weights, so no other weights' licence applies."
    else:
        yield "The licence of the weights that they start from is not recorded."


def _about_card(facts: Facts, choices: Choices) -> Iterator[str]:
    yield (
        f"Written by `x2kit publish` {choices.version} from the recipe and the records beside the weights. "
        f"SHA-256 of `{identifying_file(facts.weights).name}`: `{facts.sha256}`."
    )
    if facts.missing:
        yield f"Not recorded: {'; '.join(facts.missing)}."


def _count(number: int) -> str:
    if number >= 1_000_000_000:
        return f"{number / 1e9:.2f} billion"
    return f"{number / 1e6:.1f} million" if number >= 1_000_000 else f"{number:,}"


def _join(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{'; '.join(texts[:-1])}; and {texts[-1]}"
