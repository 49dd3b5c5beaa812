"""Checks of indexes: several processes, and writers that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO

from x2kit.plugin.indexes import Index
from x2kit.testing.claims import claim
from x2kit.testing.indexes.rows import BATCH, columns_by_id, made_rows, read, vectors
from x2kit.testing.indexes.subject import IndexSubject

KILLS, BATCHES = 3, 6


def other_processes_see_every_write(subject: IndexSubject) -> None:
    """A table that another process wrote to is read whole, also by an object that was open before."""
    if not subject.component.shared:
        return
    with subject.table(made_rows(0, 10)) as (index, location):
        with _writer(subject, location, "other", BATCHES) as writer:
            claim(writer.wait() == 0, f"another process cannot write:\n{_errors(writer)}")
        _claim_whole(index, "other", BATCHES, 10)
        with subject.component.open(location) as again:
            _claim_whole(again, "other", BATCHES, 10)


def processes_write_at_once(subject: IndexSubject) -> None:
    """Two processes and this one write to one table, and no row is lost."""
    if not subject.component.shared:
        return
    with subject.table() as (index, location):
        with (
            _writer(subject, location, "one", BATCHES) as one,
            _writer(subject, location, "two", BATCHES) as two,
        ):
            for batch in range(BATCHES):
                index.upsert(made_rows(batch * BATCH, (batch + 1) * BATCH, "own"))
            for writer in (one, two):
                claim(writer.wait() == 0, f"a process cannot write beside others:\n{_errors(writer)}")
        claim(index.count() == 3 * BATCHES * BATCH, f"{3 * BATCHES * BATCH} written rows are {index.count()}")


def a_killed_writer_leaves_whole_batches(subject: IndexSubject) -> None:
    """After `kill -9` during `upsert` every batch is there wholly or not at all, and none that was finished is lost."""
    if not subject.component.shared:
        return
    with subject.table() as (index, location):
        index.close()
        for kill in range(KILLS):
            finished = _kill(subject, location, f"kill{kill} ", after=1 + 2 * kill)
            with subject.component.open(location) as again:
                found = read(again, f"id LIKE 'kill{kill} %'")
                claim(len(found) % BATCH == 0, f"a killed upsert() of {BATCH} rows left {len(found) % BATCH}")
                claim(
                    len(found) >= finished * BATCH,
                    f"{finished * BATCH} rows were written, {len(found)} are left",
                )
                known = columns_by_id(made_rows(0, len(found), f"kill{kill} "))
                claim(found == known, "rows differ after a kill")
                again.upsert(made_rows(0, BATCH, "after"))
                hits = again.search(vectors(1), 5)[0]
                claim(len(hits) == 5, "a table cannot be searched after a kill")


def _kill(subject: IndexSubject, location: str, prefix: str, after: int) -> int:
    """Kill a writer some time after its first batches. Returns: number of batches that it finished."""
    with _writer(subject, location, prefix, 10_000) as writer:
        assert writer.stdout is not None
        for _ in range(after):
            if not writer.stdout.readline():
                raise AssertionError(f"another process cannot write:\n{_errors(writer)}")
        writer.kill()
        writer.wait()
        return after + len(writer.stdout.readlines())


def _claim_whole(index: Index, prefix: str, batches: int, others: int) -> None:
    found = {name: row for name, row in read(index).items() if name.startswith(prefix)}
    claim(found == columns_by_id(made_rows(0, batches * BATCH, prefix)), "rows of another process differ")
    claim(index.count() == len(found) + others, "the rows of another process replaced others")


def _writer(subject: IndexSubject, location: str, prefix: str, batches: int) -> subprocess.Popen[str]:
    """Start a process that writes batches, and prints a line after each."""
    component = subject.component
    module = type(component).__module__
    file = getattr(sys.modules[module.partition(".")[0]], "__file__", None)
    call = {
        "file": file,
        "module": module,
        "name": type(component).__qualname__,
        "settings": component.model_dump(mode="json"),
        "location": location,
        "prefix": prefix,
        "batches": batches,
        "path": sys.path,
    }
    command = [sys.executable, "-m", "x2kit.testing.indexes.writer", json.dumps(call)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _errors(writer: subprocess.Popen[str]) -> str:
    errors: IO[str] | None = writer.stderr
    return "" if errors is None else errors.read().strip()


LAWS = (other_processes_see_every_write, processes_write_at_once, a_killed_writer_leaves_whole_batches)
