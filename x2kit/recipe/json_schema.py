"""Generate a JSON Schema (draft 2020-12) of recipes for editors. Imports no torch.

A recipe with a `base`, and an overlay, may omit required keys and remove entries with null. The schema therefore has
two halves: keys and types, which apply to every file, and required keys, which apply only if there is no `base`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.registry import KINDS, Registry
from x2kit.recipe.catalogue import BASE
from x2kit.recipe.schema import Entries, Recipe, Section, shape_of

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/"
_REQUIRED = " (required)"


def json_schema(registry: Registry, overlay: bool = False) -> Schema:
    """Build the schema of recipe files with all registered components.

    Args:
        registry: components of all plugins that recipes may use.
        overlay: build the schema of overlays, in which no key is required.
    """
    components = [entry.component for entry in registry]
    models = [(model, "validation") for model in (Recipe, *components)]
    defs: dict[str, Schema] = models_json_schema(models, ref_template=_DEFS + "{model}")[1]["$defs"]  # type: ignore[arg-type]
    names = {component: _def_name(component, defs) for component in components}
    for kind, base in KINDS.items():
        of_kind = [component for component in components if component.kind == kind]
        defs[base.__name__] = _choice(of_kind, names)
    required = _requirements(defs)
    files = {"$schema": DIALECT, "title": "x2kit overlay" if overlay else "x2kit recipe", "type": "object"}
    keys = {key: value for key, value in defs.pop("Recipe").items() if key not in ("title", "required")}
    keys["properties"][BASE] = {
        "description": "base recipes: one or several names of shipped recipes, or paths",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}],
    }
    if overlay:
        return {**files, **keys, "$defs": _optional(defs)}
    complete = {"if": {"required": [BASE]}, "else": required.pop("Recipe" + _REQUIRED)}
    return {**files, **keys, **complete, "$defs": {**_optional(defs), **required}}


def _def_name(component: type[ComponentConfig], defs: dict[str, Schema]) -> str:
    """Return the definition's name; pydantic prepends the module if two classes share a name."""
    own = component.__name__
    if own in defs:
        return own
    full = f"{component.__module__}.{component.__qualname__}".replace(".", "__")
    return next(name for name in defs if name.startswith(full))


def _choice(components: Iterable[type[ComponentConfig]], names: dict[type[ComponentConfig], str]) -> Schema:
    """Build the schema of a component: its name, or class_path with init_args."""
    known = {component.component_name(): names[component] for component in components}
    settings = [
        {"if": _chosen(name), "then": {"properties": {"init_args": _unless_null({"$ref": _DEFS + ref})}}}
        for name, ref in known.items()
    ]
    written: Schema = {
        "type": "object",
        "properties": {
            "class_path": {"enum": list(known), "description": "the component"},
            "init_args": {"type": ["object", "null"], "description": "settings of the component"},
        },
        "additionalProperties": False,
    }
    if settings:
        written["allOf"] = settings
    return {"anyOf": [{"enum": list(known)}, written]}


def _chosen(name: str) -> Schema:
    return {"properties": {"class_path": {"const": name}}, "required": ["class_path"]}


def _unless_null(schema: Schema) -> Schema:
    """Allow null; `if` gives better editor messages than `anyOf`."""
    return {"if": {"not": {"type": "null"}}, "then": schema}


def _requirements(defs: dict[str, Schema]) -> dict[str, Schema]:
    """Collect the required keys of each definition, including nested definitions."""
    found = {}
    for name, schema in defs.items():
        if _is_choice(schema):
            found[name + _REQUIRED] = _component_requirements(schema, defs)
        elif "properties" in schema:
            below = {key: need for key, value in schema["properties"].items() if (need := _references(value))}
            found[name + _REQUIRED] = {"required": schema.get("required", []), "properties": below}
    return found


def _is_choice(schema: Schema) -> bool:
    return "class_path" in schema.get("anyOf", [{}])[-1].get("properties", {})


def _component_requirements(choice: Schema, defs: dict[str, Schema]) -> Schema:
    """Require class_path, and init_args if the class has required settings."""
    needs: list[Schema] = [{"if": {"type": "object"}, "then": {"required": ["class_path"]}}]
    for branch in choice["anyOf"][1].get("allOf", []):
        ref = branch["then"]["properties"]["init_args"]["then"]["$ref"]
        name = branch["if"]["properties"]["class_path"]["const"]
        then: Schema = {"properties": {"init_args": {"$ref": ref + _REQUIRED}}}
        if defs[ref.removeprefix(_DEFS)].get("required"):
            then["required"] = ["init_args"]
            then["properties"]["init_args"]["type"] = "object"
            needs.append({"not": {"const": name}})
        needs.append({"if": {"type": "object", **branch["if"]}, "then": then})
    return {"allOf": needs}


def _references(value: Schema) -> Schema:
    """Keep only the references of a schema, redirected to required keys; empty if none."""
    if "$ref" in value:
        # a shorthand, such as a number for a loss, has no required keys
        return {"if": {"type": ["object", "string"]}, "then": {"$ref": value["$ref"] + _REQUIRED}}
    if "anyOf" in value:
        arms = [arm for arm in map(_references, value["anyOf"]) if arm]
        return {"allOf": arms} if arms else {}
    if isinstance(value.get("additionalProperties"), dict):
        inner = _references(value["additionalProperties"])
        return {"additionalProperties": {"not": {"type": "null"}, **inner}} if inner else {}
    if isinstance(value.get("items"), dict):
        inner = _references(value["items"])
        return {"items": inner} if inner else {}
    return {}


def _optional(defs: dict[str, Schema]) -> dict[str, Schema]:
    """Drop `required`, and allow shorthands and null for removable entries."""
    shorthands = {
        model.__name__: name
        for model in _sections(Recipe)
        if (name := getattr(model, "shorthand", None)) is not None
    }
    found: dict[str, Schema] = {}
    for name, schema in defs.items():
        if "properties" not in schema:  # a choice of component, or a list of values
            found[name] = schema
            continue
        keys = {key: _removable(value) for key, value in schema["properties"].items()}
        plain = {key: value for key, value in schema.items() if key != "required"} | {"properties": keys}
        shorthand = shorthands.get(name)
        found[name] = {"anyOf": [keys[shorthand], plain]} if shorthand else plain
    return found


def _removable(value: Schema) -> Schema:
    """Allow null for a mapping, and for each of its entries."""
    if "anyOf" in value:
        return {**value, "anyOf": [_removable(arm) for arm in value["anyOf"]]}
    entries = value.get("additionalProperties")
    if not isinstance(entries, dict) or "$ref" not in entries:
        return value
    mapping = {**value, "additionalProperties": {"anyOf": [entries, {"type": "null"}]}}
    return {"description": value.get("description", ""), "anyOf": [mapping, {"type": "null"}]}


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the model and all section models nested in its fields."""
    yield model
    for field in model.model_fields.values():
        shape = shape_of(field.annotation)
        while isinstance(shape, Entries):
            shape = shape.of
        if isinstance(shape, Section):
            yield from _sections(shape.model)
