"""`x2kit search evaluate`: measure retrieval of captions with an index."""

from __future__ import annotations

import json

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, add_model_arguments, open_index

HELP = "measure R@1, R@5 and R@10 of captions against all rows of an index, by language"
EXAMPLES = """\
examples:
  x2kit search evaluate photos.index --queries captions.jsonl
  x2kit search evaluate photos.index --queries captions.jsonl --exact --json

a line of captions.jsonl: {"image": "7.jpg", "caption": {"en": "a monkey", "de": ["ein Affe"]}}
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index, the captions and the output."""
    add_index_argument(parser)
    parser.add_argument(
        "--queries", type=str, required=True, metavar="FILE", help="JSON Lines: image (path) and caption"
    )
    parser.add_argument("--where", type=str, default="", metavar="SQL", help="condition on the candidates")
    parser.add_argument("--exact", action="store_true", help="do not use the approximate index")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_model_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Measure and print a table."""
    from x2kit.search.evaluating import evaluate_index, read_captions  # imports torch
    from x2kit.terminal import TaskProgress

    captions = read_captions(options.queries)
    with open_index(options) as index, TaskProgress() as bar:
        result = evaluate_index(index, captions, where=options.where, exact=options.exact, progress=bar)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    print(f"text to image, {result['candidates']} candidates, {result['search']} search")
    print(f"{'':<10} {'R@1':>6} {'R@5':>6} {'R@10':>6} {'chance':>8} {'queries':>8} {'missing':>8}")
    for language, found in result["languages"].items():
        shares = " ".join(f"{100 * found[key]:6.1f}" for key in ("r1", "r5", "r10"))
        chance = f"{100 * found['chance_r1']:8.3f}"
        print(f"{language:<10} {shares} {chance} {found['queries']:>8} {found['missing']:>8}")
    return 0
