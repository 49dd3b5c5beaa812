"""A mixture draws each source in its share, evenly spread, and all records of a source equally often."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from x2kit.data.pipeline.order import StreamOrder
from x2kit.data.sources.config import JsonLines, Mixture
from x2kit.data.sources.mixture import MixtureSource, turns, whole_shares
from x2kit.errors import DataError, SettingError
from x2kit.plugin.choice import context_of
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.registry import Registry
from x2kit.plugin.sources import Located, Place, Source
from x2kit.testing import check_source

SHARES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def lines(folder: Path, name: str, count: int, **settings: Any) -> JsonLines:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"caption": f"{name} {n}"}) + "\n" for n in range(count)), "utf-8")
    return JsonLines(files=(file,), **settings)


def mixture(folder: Path, weights: dict[str, float], **counts: int) -> Mixture:
    return Mixture(sources={name: lines(folder, name, n) for name, n in counts.items()}, weights=weights)


def names(source: MixtureSource, indices: range) -> Counter[str]:
    return Counter(str(source[index]["id"]).split("/")[0] for index in indices)


def test_it_meets_the_contract_of_sources(tmp_path: Path) -> None:
    check_source(mixture(tmp_path, {"a": 3, "b": 1}, a=20, b=9))


def test_every_round_has_the_shares_of_the_weights(tmp_path: Path) -> None:
    source = mixture(tmp_path, {"a": 3, "b": 1}, a=5, b=50).open()
    assert len(source) == 56  # whole rounds of four
    for start in (0, 4, 100, 1000):
        assert names(source, range(start, start + 4)) == {"a": 3, "b": 1}
    assert 73 <= names(source, range(13, 113))["a"] <= 77


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    shares=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    seed=st.integers(0, 9),
    block=st.integers(1, 3),
)
def test_records_of_a_source_are_drawn_equally_often_over_a_run(
    tmp_path: Path, sizes: list[int], shares: list[int], seed: int, block: int
) -> None:
    weights = {f"s{number}": float(shares[number]) for number in range(len(sizes))}
    source = mixture(tmp_path, weights, **{f"s{n}": size for n, size in enumerate(sizes)}).open()
    order = StreamOrder(seed, "stream", len(source))
    seen: Counter[str] = Counter()
    for slot in order.slots(0, 7 * len(source)):
        seen[str(source[slot.record + slot.epoch * len(source)]["id"])] += 1
    for number, size in enumerate(sizes):
        visits = [seen[f"s{number}/s{number}.jsonl:{line}"] for line in range(1, size + 1)]
        assert max(visits) - min(visits) <= 1
        assert sum(visits) * sum(weights.values()) == 7 * len(source) * shares[number]


def test_an_epoch_continues_where_the_previous_one_ended(tmp_path: Path) -> None:
    source = mixture(tmp_path, {"a": 1, "b": 1}, a=6, b=2).open()
    captions = [[source[place + epoch * 8]["caption"] for place in range(8)] for epoch in (0, 1)]
    assert [text for text in captions[0] if text[0] == "a"] == ["a 0", "a 1", "a 2", "a 3"]
    assert [text for text in captions[1] if text[0] == "a"] == ["a 4", "a 5", "a 0", "a 1"]


def test_a_nested_mixture_draws_all_its_records(tmp_path: Path) -> None:
    inner = mixture(tmp_path, {"a": 1, "b": 1}, a=6, b=2)
    source = Mixture(
        sources={"inner": inner, "c": lines(tmp_path, "c", 1)}, weights={"inner": 1, "c": 3}
    ).open()
    seen = Counter(str(source[index]["id"]) for index in range(12 * 4))
    assert {name: count for name, count in seen.items() if "/a/" in name} == {
        f"inner/a/a.jsonl:{line}": 1 for line in range(1, 7)
    }


def test_languages_splits_texts_and_fingerprints_are_those_of_the_sources(tmp_path: Path) -> None:
    english, german = lines(tmp_path, "en", 2, language="en"), lines(tmp_path, "de", 2, language="de")
    config = Mixture(sources={"a": english, "b": german}, weights={"a": 1, "b": 1})
    assert config.languages() == ("en", "de")
    assert (
        Mixture(sources={"a": english, "b": lines(tmp_path, "x", 1)}, weights={"a": 1, "b": 1}).languages()
        is None
    )
    assert list(config.open().texts()) == ["en 0", "en 1", "de 0", "de 1"]
    before = config.open().fingerprint()
    assert config.model_copy(update={"weights": {"a": 1, "b": 2}}).open().fingerprint() != before
    lines(tmp_path, "de", 3)
    assert config.open().fingerprint() != before
    for split in ("train", "test"):
        lines(tmp_path, split, 1)
    parts = JsonLines(files=(tmp_path / "{split}.jsonl",))
    whole = Mixture(sources={"a": parts, "b": parts}, weights={"a": 1, "b": 1})
    assert {record["caption"] for record in whole.for_split("test").open()} == {"test 0"}
    with pytest.raises(SettingError, match="split"):
        config.for_split("test")


def test_errors_name_source_and_place(tmp_path: Path) -> None:
    good, bad = lines(tmp_path, "good", 1), lines(tmp_path, "bad", 1)
    (tmp_path / "bad.jsonl").write_text('{"caption": 3}\n', "utf-8")
    source = Mixture(sources={"good": good, "bad": bad}, weights={"good": 1, "bad": 1}).open()
    assert isinstance(source, Source)
    assert isinstance(source, Located)
    index = next(index for index in range(2) if source.place(index).file.endswith("bad.jsonl"))
    assert source.place(index) == Place(str(tmp_path / "bad.jsonl"), line=1)
    with pytest.raises(DataError, match=r"bad\.jsonl:1: caption: expected text") as caught:
        source[index]
    assert caught.value.record == "bad/bad.jsonl:1"
    missing = Mixture(sources={"x": JsonLines(files=(tmp_path / "no.jsonl",))}, weights={"x": 1})
    with pytest.raises(SettingError, match=r"sources\.x\.init_args\.files: no file at .*no\.jsonl"):
        missing.check()


def test_every_source_needs_a_positive_weight(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="weights has the keys a, c, sources has a, b"):
        mixture(tmp_path, {"a": 1, "c": 1}, a=1, b=1)
    for weight in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValidationError, match="weights"):
            mixture(tmp_path, {"a": weight}, a=1)


def test_a_recipe_resolves_the_sources_by_name(tmp_path: Path) -> None:
    from pydantic import TypeAdapter

    from x2kit.data.sources import x2kit_register

    registry = Registry("x2kit_data", "x2kit")
    x2kit_register(registry)
    file = lines(tmp_path, "a", 1).files[0]
    part = {"class_path": "JsonLines", "init_args": {"files": [file]}}
    written = {"class_path": "Mixture", "init_args": {"sources": {"a": part}, "weights": {"a": 2}}}
    adapter = TypeAdapter(list[SourceConfig])
    configs = adapter.validate_python([written], context=context_of(registry))
    assert configs[0].open()[0]["caption"] == "a 0"
    assert adapter.validate_python(adapter.dump_python(configs), context=context_of(registry)) == configs


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([3, 1], [3, 1]),
        ([0.7, 0.2, 0.1], [7, 2, 1]),
        ([4.0, 2.0], [2, 1]),
        ([1e-3, 1], [1, 1000]),
        ([5], [1]),
    ],
)
def test_weights_become_the_smallest_whole_numbers_in_their_ratio(
    weights: list[float], shares: list[int]
) -> None:
    assert whole_shares(weights) == shares


def test_weights_of_too_many_digits_are_refused() -> None:
    with pytest.raises(
        SettingError, match=r"weights: as whole numbers they are 333333, 666667, .* 1000000.* at most 65536"
    ):
        whole_shares([0.333333, 0.666667])


@settings(max_examples=80, deadline=None)
@given(SHARES)
def test_turns_differ_from_the_shares_by_less_than_one_at_any_point(shares: list[int]) -> None:
    order, total = turns(shares), sum(shares)
    for number, share in enumerate(shares):
        had = 0
        for turn, chosen in enumerate(order, 1):
            had += int(chosen == number)
            assert abs(had - turn * share / total) < 1
        assert had == share


def test_the_turns_of_three_to_one_are_spread() -> None:
    assert sorted(turns([3, 1]).tolist()) == [0, 0, 0, 1]
    assert turns([1, 1, 1]).tolist() == [0, 1, 2]
