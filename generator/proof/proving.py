"""Both halves of a proof together: the rules by promtool, and the routes by Alertmanager."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from generator import burn, engine, names, servers, stack
from generator.errors import LgtmError
from generator.model import Model, alert_labels
from generator.progress import Report
from generator.project import Project
from generator.promtool import IDLE, PLACE, Look, Promtool, PromtoolError, put
from generator.proof import routes, rules
from generator.proof.result import Failure, Findings, Proof, Row
from generator.render import Artifact

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "lgtm.proof"
WORKERS = 2
# Test files for each call of promtool: few enough for progress to be seen, enough for its start not to matter.
BATCH = 12


class ProofError(LgtmError):
    """The proof could not be made: a tool is missing or did not work."""


class Tools:
    """promtool, in a container that is removed when it is over; and, for others, containers of the same kind."""

    def __init__(self, project: Project, client: DockerClient) -> None:
        self._project = project
        self._client = client
        self._containers: list[Container] = []
        self._promtool: Promtool | None = None

    def start(
        self, server: str, command: Sequence[str], *, files: Mapping[str, Mapping[str, str]] | None = None, **more: Any
    ) -> Container:
        """A container of a server's image, with files by directory. Raises ProofError when there is no such image."""
        from docker.errors import DockerException, ImageNotFound

        image = stack.image(self._project, server)
        labels = {LABEL: self._project.compose_project, f"{LABEL}.by": f"{socket.gethostname()} {os.getpid()}"}
        try:
            container = self._client.containers.create(image, list(command), labels=labels, **more)
            self._containers.append(container)
            for directory, texts in (files or {}).items():
                put(container, directory, texts)
            container.start()
        except ImageNotFound:
            raise ProofError(f"The image {image} is not here.", "Run: lgtm pull") from None
        except DockerException as error:
            raise ProofError(f"{server} could not be started for the proof: {error}.", "Run: lgtm doctor") from None
        return container

    def promtool(self) -> Promtool:
        """promtool, in a container that is kept until the end."""
        if self._promtool is None:
            self._promtool = Promtool(self.start("prometheus", IDLE, entrypoint=["/bin/prometheus"], **PLACE))
        return self._promtool

    @contextlib.contextmanager
    def alertmanager(self, configuration: str) -> Iterator[routes.Ask]:
        """An Alertmanager with a configuration; its API. Raises RefusedError when it does not take it."""
        files = {"alertmanager.yml": configuration}
        command = [
            "--config.file=/proof/alertmanager.yml",
            "--storage.path=/alertmanager",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        container = self.start(
            "alertmanager", command, files={"/proof": files}, user="0", ports={"9093/tcp": ("127.0.0.1", None)}, environment={}
        )
        container.reload()
        bound = (container.attrs["NetworkSettings"]["Ports"].get("9093/tcp") or [{}])[0].get("HostPort")
        client = servers.Alertmanager(f"http://127.0.0.1:{bound}", timeout=60)

        def ask(method: str, path: str, body: Any) -> Any:
            answer = client.call(method, path, body=body)
            return answer.json() if answer.content and method == "GET" else None

        try:
            for _ in range(400):
                try:
                    client.call("GET", "/-/ready")
                    break
                except servers.UnreachableError:
                    container.reload()
                    if container.status not in ("running", "created"):
                        lines = container.logs().decode(errors="replace").strip().splitlines()
                        said = re.search(r'err="?(.*?)"?$', lines[-1]) if lines else None
                        raise routes.RefusedError(said[1] if said else "nothing") from None
                    time.sleep(0.05)
            else:
                raise ProofError("Alertmanager did not become ready for the proof.", "Is this machine very busy? Try again.")
            yield ask
        finally:
            client.close()
            if container in self._containers:
                self._containers.remove(container)
                self._remove(container)

    def _remove(self, container: Container) -> None:
        from docker.errors import DockerException

        with contextlib.suppress(DockerException):
            container.remove(force=True, v=True)

    def close(self) -> None:
        """Remove the containers."""
        while self._containers:
            self._remove(self._containers.pop())
        self._promtool = None


@contextlib.contextmanager
def tools(project: Project) -> Iterator[Tools]:
    """What a proof needs of Docker. Containers that an earlier proof was killed over are removed first."""
    client = engine.connect()
    made = Tools(project, client)
    try:
        _clean(project, client)
        yield made
    finally:
        made.close()
        client.close()


def _clean(project: Project, client: DockerClient) -> None:
    from docker.errors import DockerException

    for old in client.api.containers(all=True, filters={"label": f"{LABEL}={project.compose_project}"}):
        host, _, pid = str(old["Labels"].get(f"{LABEL}.by", "")).partition(" ")
        try:
            if host != socket.gethostname() or not pid.isdecimal():
                continue
            os.kill(int(pid), 0)
        except ProcessLookupError:
            with contextlib.suppress(DockerException):
                client.api.remove_container(old["Id"], force=True, v=True)
        except PermissionError:
            continue


def prove(
    project: Project,
    model: Model,
    artifacts: Sequence[Artifact],
    report: Report,
    only: Collection[str] | None = None,
    *,
    all_routes: bool = False,
    parts: Collection[str] = ("rules", "routes"),
    made: Tools | None = None,
) -> Proof:
    """Prove the alerts of a model on what was rendered of it.

    ``only`` names services, or ``service/slo``, to which the proof is limited; with ``all_routes`` that of the rules
    alone. ``parts`` are the halves to prove. ``made`` are tools that are kept, for who
    proves more than once. Raises LgtmError when the tools cannot be run: no Docker, no images.
    """
    if made is None:
        with tools(project) as own:
            return prove(project, model, artifacts, report, only, all_routes=all_routes, parts=parts, made=own)

    def wanted(service: str, slo: str) -> bool:
        # Without an SLO it is the rest of a service: its thresholds and probes.
        return only is None or service in only or (bool(slo) and f"{service}/{slo}" in only)

    def concerns(alert: routes.Known) -> bool:
        return only is None or all_routes or alert.labels["service"] in only or alert.subject in only

    found, routing = Findings(), routes.Routing()
    if "routes" in parts:
        routing = _prove_routes(made, model, artifacts, found, concerns, report)
    if "rules" in parts:
        _prove_rules(made, list(rules.jobs(model, artifacts, wanted, found)), found, report)
    table = _table(model, found, routing.reached, wanted)
    return Proof(table, tuple(found.failures), routing.facts, routing.tests)


# --- the routes ------------------------------------------------------------------------------------------------------


def _prove_routes(
    made: Tools,
    model: Model,
    artifacts: Sequence[Artifact],
    found: Findings,
    concerns: Callable[[routes.Known], bool],
    report: Report,
) -> routes.Routing:
    """Have a real Alertmanager route every alert, and compare."""
    try:
        configuration = routes.configuration_of(artifacts)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        found.fail("routes", "all", "routing", [f"{routes.CONFIG} cannot be read: {error}"], ("routing",))
        return routes.Routing()
    if configuration is None:
        found.fail("routes", "all", "routing", [f"{routes.CONFIG} was not rendered"], ("routing",))
        return routes.Routing()
    alerts = routes.known_alerts(model)
    try:
        with made.alertmanager(configuration.text) as ask:
            routed = routes.ask_all(ask, configuration, routes.Expected(model), alerts, lambda: time.sleep(0.05))
    except routes.RefusedError as error:
        found.fail("routes", "all", "routing", [f"Alertmanager must take the configuration, and says: {error}"], ("routing",))
        return routes.Routing()
    report(f"routes: {len(alerts)} alerts by Alertmanager, {len(routed.tried)} pairs of them on each other")
    return routes.check(model, configuration, routed, alerts, found, concerns)


# --- the rules -------------------------------------------------------------------------------------------------------


def _prove_rules(made: Tools, jobs: list[rules.Job], found: Findings, report: Report) -> None:
    """Run promtool over all jobs, two at a time, and check what it says."""
    if not jobs:
        return
    promtool = made.promtool()
    batches = [jobs[i :: _count(jobs)] for i in range(_count(jobs))]
    done = 0
    said: dict[str, list[Look] | str] = {}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="promtool") as pool:
        running: dict[Future[dict[str, list[Look] | str]], list[rules.Job]] = {
            pool.submit(_run, promtool, batch): batch for batch in batches
        }
        try:
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    batch = running.pop(future)
                    said |= future.result()
                    done += len(batch)
                    report(f"rules: {done} of {len(jobs)} tests by promtool")
        except BaseException:
            # Ctrl-C: what has not begun is left, and what runs ends with its container.
            pool.shutdown(wait=False, cancel_futures=True)
            made.close()
            raise
    # In the file's order, and not in that in which promtool was done.
    for job in jobs:
        _judge(job, said[job.name], found)


def _count(jobs: Sequence[rules.Job]) -> int:
    return max(min(WORKERS, len(jobs)), -(-len(jobs) // BATCH))


def _run(promtool: Promtool, jobs: Sequence[rules.Job]) -> dict[str, list[Look] | str]:
    """What promtool found for each job: looks, or why it could not be run."""
    files: dict[str, str] = {}
    tests = []
    texts: dict[str, str] = {}
    for index, job in enumerate(jobs):
        name = texts.setdefault(job.rules, f"rules{len(texts)}.yaml")
        files[name] = job.rules
        files[f"test{index}.yaml"] = _yaml({"rule_files": [name], **job.test})
        tests.append(f"test{index}.yaml")
    try:
        looks = promtool.looks(files, tests)
    except PromtoolError as error:
        if len(jobs) > 1:
            # One of them cannot be run; which, is seen when each is run by itself.
            return {name: said for job in jobs for name, said in _run(promtool, [job]).items()}
        return {jobs[0].name: error.message}
    by_test: dict[str, list[Look]] = {job.name: [] for job in jobs}
    for look in looks:
        what, _, named = look.what.partition(rules.NAMED)
        name = named or look.test
        by_test[name.rpartition("/")[0]].append(replace(look, test=name, what=what))
    return dict(by_test)


def _judge(job: rules.Job, said: list[Look] | str, found: Findings) -> None:
    if isinstance(said, str):
        message = f"the rules must load, and do not: {said}"
        if not any(f.subject == job.subject and f.message == message for f in found.failures):
            found.failures.append(Failure("all", job.subject, message, job.path, "promtool"))
        return
    job.check(said)


def _yaml(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, width=10**9)
    return text


# --- the table -------------------------------------------------------------------------------------------------------


def _table(
    model: Model, found: Findings, reached: Mapping[tuple[str, str], routes.Reach], wanted: Callable[[str, str], bool]
) -> tuple[Row, ...]:
    rows = []
    failed = {(f.subject, f.alert) for f in found.failures}
    broken = {f.subject for f in found.failures if f.alert == "all"}
    slos = {f"{slo.service}/{slo.name}": slo for slo in model.slos}
    holds = {(a.service, a.name): a.hold for s in model.services for a in s.alerts}
    probes = {(p.service, p.name): p for s in model.services for p in s.probes}
    for subject, labels in alert_labels(model):
        alert, service = labels["alertname"], labels["service"]
        slo = slos.get(subject) if "slo" in labels else None
        name = subject if "slo" in labels or "probe" in labels else service
        if not wanted(service, labels.get("slo", "")):
            continue
        detects: float | None = None
        resolves: float | None = None
        if slo is not None and alert.startswith(names.ALERT_BURN):
            conditions = [c for c in burn.conditions(slo) if c.severity == labels["severity"]]
            detects = _seconds(burn.first(conditions, labels["severity"], 0))
            resolves = _seconds(max((c.times[0].reset for c in conditions if c.times[0].reset is not None), default=None))
        elif alert == names.ALERT_NO_DATA:
            detects = 300.0 + float(slo.context.range.seconds if slo is not None else 0)
        elif alert == names.ALERT_PROBE:
            probe = probes[service, labels["probe"]]
            detects = float(probe.interval.seconds * probe.failures)
        elif (service, alert) in holds:
            detects = float(holds[service, alert].seconds)
        reach = reached.get((name, f"{alert} {labels['severity']}"), routes.Reach((), (), ()))
        rows.append(
            Row(
                alert=alert,
                subject=name,
                severity=labels["severity"],
                detects=detects,
                resolves=resolves,
                reaches=reach.now,
                escalates=reach.later,
                times=reach.times,
                failed=(name, alert) in failed or service in broken or name in broken,
                unproven=tuple(found.unproven.get((name, alert), ())),
            )
        )
    return tuple(rows)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
