"""Room and time: series, retention, the disk, the clocks."""

from __future__ import annotations

import contextlib
import email.utils
import math
import re
import shutil
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from generator import cost, servers, stack, words
from generator.errors import LgtmError
from generator.model import DAY, Model
from generator.project import Project
from generator.units import Duration
from generator.verify.check import Check
from generator.verify.look import Look, in_parts

_SKEW_WARN, _SKEW_FAIL = 2.0, 30.0  # seconds
# https://prometheus.io/docs/prometheus/latest/storage: one to two bytes a sample.
_BYTES_PER_SAMPLE = 2
_MANY_VALUES = 10_000  # of one label
DISK_FREE = "lgtm_verify_disk_free_bytes"


def cardinality(look: Look) -> Iterator[Check]:
    """How many series there are, what most of them are, and what the file itself costs."""
    data = look.prometheus.json("/api/v1/status/tsdb", limit="5")["data"]
    memory = look.query('process_resident_memory_bytes{job="prometheus"}')
    allowed = int(look.runtime().get("GOMEMLIMIT") or 0)
    series = int(data["headStats"]["numSeries"])
    biggest = ", ".join(f"{m['name']} {m['value']:,}" for m in data["seriesCountByMetricName"][:3])
    text = f"{series:,} series in memory; most: {biggest}"
    used = memory[0][1] if memory else 0.0
    if allowed and used:
        text += f"; {used / 2**20:,.0f} MiB of {allowed / 2**20:,.0f} MiB used"
    full = bool(allowed) and used > 0.8 * allowed
    cure = "Drop what nobody reads, or raise mem_limit and GOMEMLIMIT in compose.override.yaml."
    yield Check("cardinality", "series", "warn" if full else "ok", text, cure if full else "")
    for label in data["labelValueCountByLabelName"]:
        if label["name"] != "__name__" and label["value"] > _MANY_VALUES:
            text = f"it has {label['value']:,} values: an id of a user or a request does not belong into a label"
            yield Check(
                "cardinality", f"label {label['name']}", "warn", text, "Take it out of the metric; logs and traces hold it."
            )
    together = cost.total(cost.of_model(look.model, 20))
    text = f"{together.rules:.0f} rules, {together.series:,.0f} series, about {together.samples:,.0f} samples read every 30 s"
    yield Check("cardinality", "slos.yaml", "ok", f"{text} (computed)")


def retention(look: Look) -> Iterator[Check]:
    """Data is kept for as long as the longest window needs it, and as .env says."""
    yield from in_parts(look, "retention", [_retention_prometheus, _retention_others])


def longest_window(model: Model) -> tuple[Duration, str]:
    """The longest time that any rule looks back, and what does."""
    found = [(slo.window, f"{slo.service}/{slo.name}") for slo in model.slos]
    for slo in model.slos:
        if slo.sla is not None:
            found.append((DAY * (92 if slo.sla.period == "quarter" else 31), f"the SLA of {slo.service}/{slo.name}"))
    return max(found, key=lambda pair: pair[0], default=(Duration(Decimal(0)), "nothing"))


def parse_retention(text: str) -> tuple[Duration | None, int | None]:
    """Time and bytes of what Prometheus says that it keeps: ``100d or 20GiB``. None where it names no such limit."""
    length, size = None, None
    for part in text.split(" or "):
        try:
            length = Duration.of(part.strip())
        except ValueError:
            size = stack.parse_size(part.strip().replace("iB", "B")) or size
    return length, size


def _retention_prometheus(look: Look) -> Iterator[Check]:
    rows = look.queries(
        {
            "rate": 'rate(prometheus_tsdb_head_samples_appended_total{job="prometheus"}[15m])',
            "oldest": 'prometheus_tsdb_lowest_timestamp_seconds{job="prometheus"}',
        }
    )
    kept, size = parse_retention(str(look.runtime().get("storageRetention", "")))
    setting = look.project.settings["PROMETHEUS_RETENTION"]
    limit = look.project.settings["PROMETHEUS_RETENTION_SIZE"]
    window, whose = longest_window(look.model)
    asked = f"the longest window is {window} ({whose})"
    if kept is not None and kept < window:
        text = f"Prometheus keeps {kept}, and {asked}"
        yield Check("retention", "Prometheus", "fail", text, "Raise PROMETHEUS_RETENTION in .env and run `make up`.")
    elif kept is not None and str(kept) != str(Duration.or_none(setting)):
        text = f"Prometheus keeps {kept}, and .env says {setting}"
        yield Check("retention", "Prometheus", "warn", text, "Run `make up`.")
    elif size is not None and size != (stack.parse_size(limit) or 0):
        text = f"Prometheus keeps {size / 2**30:.3g} GiB, and .env says {limit}"
        yield Check("retention", "Prometheus", "warn", text, "Run `make up`.")
    else:
        yield Check("retention", "Prometheus", "ok", f"keeps {kept}; {asked}")
    rate = sum(value for _, value in rows["rate"])
    if size and rate:
        days = size / (rate * _BYTES_PER_SAMPLE * 86400)
        text = f"at {rate:,.0f} samples a second {size / 2**30:.3g} GiB hold about {days:,.0f} days"
        short = days < float(window.seconds) / 86400
        cure = "Raise PROMETHEUS_RETENTION_SIZE in .env, or drop series that nobody reads." if short else ""
        yield Check("retention", "size", "warn" if short else "ok", f"{text}; {asked}" if short else text, cure)
    oldest = min((value for _, value in rows["oldest"]), default=0.0)
    if oldest:
        age = time.time() - oldest
        whole = "" if age >= float(window.seconds) else f": windows of {window} are not full yet"
        yield Check("retention", "history", "ok", f"the oldest sample is {words.lasting(age)} old{whole}")


def _retention_others(look: Look) -> Iterator[Check]:
    """Loki and Tempo keep what .env says: they read it when they start."""
    places = {
        "loki": ("/config", "LOKI_RETENTION", ("limits_config", "retention_period")),
        "tempo": ("/status/config", "TEMPO_RETENTION", ("compactor", "compaction", "block_retention")),
    }
    for server, (path, setting, keys) in places.items():
        text = look.client(server).call("GET", path).text
        # Tempo has a line before its document, and both print times as Go does.
        value: Any = servers.load_text(text.partition("---")[2] or text)
        for key in keys:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        kept, wanted = (
            Duration.or_none(re.sub(r"(?<=[hms])0[ms]", "", str(value))),
            Duration.or_none(look.project.settings[setting]),
        )
        if kept is None or wanted is None:
            yield Check("retention", server.capitalize(), "skipped", f"how long it keeps data is not known ({value})")
        elif kept != wanted:
            said = f"it keeps {kept}, and .env says {look.project.settings[setting]}"
            yield Check("retention", server.capitalize(), "warn", said, "Run `make up`.")
        else:
            yield Check("retention", server.capitalize(), "ok", f"keeps {look.project.settings[setting]}")


def disk_free(project: Project, docker_root: str | None) -> tuple[Path, int]:
    """Where the data lies and how many bytes are free there, as far as this machine can tell. Raises OSError."""
    place = Path(docker_root or "/var/lib/docker")
    place = place if place.exists() else project.root
    return place, shutil.disk_usage(place).free


def disk(look: Look) -> Iterator[Check]:
    """When the disk will be full, by how it filled in the last hours."""
    root = None
    with contextlib.suppress(LgtmError):
        root = look.containers()[""].get("DockerRootDir")
    place, free = disk_free(look.project, root)
    # A pace of some minutes would be that of one compaction.
    rows = look.queries({"slope": f"deriv({DISK_FREE}[6h])", "before": f"last_over_time({DISK_FREE}[5h] offset 1h)"})
    slope = min((value for _, value in rows["slope"]), default=None) if rows["before"] else None
    yield disk_left(str(place), free, slope)


def disk_left(place: str, free: float, slope: float | None) -> Check:
    """``free`` bytes and their change in bytes a second; None when not enough is known of it."""
    text = f"{free / 1e9:,.0f} GB free under {place}"
    cure = "Free space, or lower the retention in .env and run `make up`."
    days = free / -slope / 86400 if slope is not None and slope < 0 else math.inf
    if slope is None:
        text += "; how fast it fills is known when `lgtm verify --push` has run for an hour"
    elif days < 3650:
        text += f"; full in {words.lasting(days * 86400)} at the pace of the last hours"
    else:
        text += "; not filling"
    if free < 2e9 or days < 1:
        return Check("disk", "free space", "fail", text, cure)
    if free < 10e9 or days < 14:
        return Check("disk", "free space", "warn", text, cure)
    return Check("disk", "free space", "ok", text)


def clock(look: Look) -> Iterator[Check]:
    """This machine and the servers agree on the time."""
    yield skewed("Prometheus", look.runtime()["skew"])
    paths = {"loki": "/ready", "tempo": "/ready", "alertmanager": "/-/ready"}
    for server, path in paths.items():
        try:
            before = time.time()
            said = look.client(server).call("GET", path).headers.get("Date")
        except LgtmError:
            continue  # `servers` tells
        if said:
            # A header has whole seconds, cut off.
            yield skewed(server.capitalize(), email.utils.parsedate_to_datetime(said).timestamp() + 0.5 - before)


def skewed(server: str, seconds: float) -> Check:
    """Whether a server's clock, ahead by ``seconds``, is near enough."""
    off = abs(seconds)
    text = f"its clock is {words.lasting(off)} {'ahead of' if seconds > 0 else 'behind'} this machine's"
    cure = (
        "Set the time (`timedatectl set-ntp true`), or restart Docker Desktop: samples and spans would be refused or misplaced."
    )
    if off < _SKEW_WARN:
        return Check("clock", server, "ok", "agrees with this machine's")
    return Check("clock", server, "fail" if off >= _SKEW_FAIL else "warn", text, cure)
