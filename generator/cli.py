"""The command `lgtm`. The only place that prints.

Exit codes: 0 ok, 1 the spec or the stack is at fault, 2 usage or (plan) changes, 3 not all could be imported, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.table import Table

from generator import diagnostics
from generator.console import (
    FORMAT,
    OUTPUT,
    Format,
    State,
    escaped,
    load_spec,
    print_diagnostics,
    put,
    read_spec,
    report,
    secrets_for,
    terminal,
)
from generator.errors import LgtmError
from generator.explain import CODES
from generator.explain import as_text as explain_text
from generator.project import Project

# Commands that have a module of their own, which is read when one of them is asked for: start-up stays short.
_ELSEWHERE = {
    "apply": "generator.commands.apply:apply",
    "backtest": "generator.commands.backtest:backtest",
    "demo": "demo.cli:demo",
    "drill": "generator.commands.drill:drill",
    "history": "generator.commands.history:history",
    "incident": "generator.commands.incident:incident",
    "plan": "generator.commands.plan:plan",
    "resend": "generator.commands.resend:resend",
    "rollback": "generator.commands.history:rollback",
    "test": "generator.commands.test:test",
    "verify": "generator.commands.verify:verify",
}


def _demo_without(library: str) -> click.Command:
    """The demo's command, where its libraries are not installed."""

    @click.command(name="demo", help="Start and break a demo service (its libraries are not installed).")
    def demo() -> None:
        raise LgtmError(f"The demo needs {library}.", "Run: .venv/bin/pip install -e '.[demo]'")

    return demo


class Group(click.Group):
    """Commands whose errors are sentences, some of them in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in alphabetical order."""
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, whose module is imported now where it has one of its own."""
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = _ELSEWHERE[cmd_name].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if cmd_name != "demo":
                raise
            return _demo_without(str(error.name))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn what a user can mend into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except LgtmError as error:
            console = terminal(stderr=True)
            console.print(f"[bold red]error:[/] {escaped(error.message)}")
            if error.hint:
                console.print(escaped(error.hint))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            terminal(stderr=True).print("interrupted", markup=False)
            ctx.exit(130)
        except BrokenPipeError:
            # The reader of a pipe has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n\b\n  lgtm validate\n  lgtm -f slos.yaml -f production.yaml render --check\n  lgtm apply\n",
)
@click.option(
    "-C",
    "--project",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The project's directory; the nearest one with a compose.yaml when left out.",
)
@click.option("-f", "--file", "files", multiple=True, type=click.Path(), help="The spec; again for files laid over it.")
@click.version_option(package_name="lgtm-as-code", prog_name="lgtm")
@click.pass_context
def cli(ctx: click.Context, project: Path | None, files: tuple[str, ...]) -> None:
    """One file says what good service means; rules, dashboards, routes and probes follow from it."""
    ctx.obj = State(project, files)


@cli.command(epilog="Examples:\n\n\b\n  lgtm validate\n  lgtm -f examples/beacon.yaml validate --format json\n")
@FORMAT
@click.pass_obj
def validate(state: State, style: Format) -> None:
    """Check the spec: every fault, with its place and what to do. Writes nothing."""
    found = load_spec(state, style)
    if style == "text":
        slos = list(found.slos)
        alerts = sum(len(s.alerts) for s in found.services)
        counts = ((len(found.services), "service"), (len(slos), "SLO"), (alerts, "threshold alert"))
        click.echo("ok: " + ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts))


@cli.command(
    epilog="Examples:\n\n\b\n  lgtm render\n  lgtm render --check    # in CI: are the rendered files those of slos.yaml?\n"
    "  lgtm -f my.yaml render --output out/\n"
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the files on disk differ.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Another directory than the project.")
@FORMAT
@click.pass_obj
def render(state: State, check: bool, output: Path | None, style: Format) -> None:
    """Write what follows from the spec: rules, scrape targets, routes, dashboards."""
    from generator import render, rendered

    artifacts = render.everything(load_spec(state, style))
    root = output if output is not None else state.project.root
    if check:
        differences = rendered.check(root, artifacts)
        for difference in differences:
            click.echo(difference)
        if differences:
            raise LgtmError(f"{len(differences)} rendered files are not those of the spec.", "Run: lgtm render")
        click.echo(f"ok: {len(artifacts)} files are up to date")
        return
    changed = rendered.write(root, artifacts)
    click.echo(f"{len(artifacts)} files rendered, {len(changed)} changed")


@cli.command(
    name="import",
    epilog="Exit code 3: something could not be carried over; it is listed, and the file says where it would stand.\n\n"
    "Examples:\n\n\b\n  lgtm import sloth slos/*.yml --output slos.yaml\n"
    "  lgtm import openslo service.yaml slis.yaml slos.yaml\n  kubectl get slo -A -o yaml | lgtm import pyrra -\n",
)
@click.argument("style", metavar="sloth|openslo|pyrra", type=click.Choice(["sloth", "openslo", "pyrra"]))
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here; to stdout when left out.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--window", default="30d", show_default=True, help="The window of SLOs whose file names none.")
def import_(style: str, files: tuple[str, ...], output: Path | None, force: bool, window: str) -> None:
    """Turn the SLOs of Sloth, OpenSLO or Pyrra into a file of ours. A FILE that is - is read from stdin."""
    from generator import importers, model

    if output is not None and output.exists() and not force:
        raise LgtmError(f"{output} is there already.", "Name another file, or write over it with --force.")
    result = importers.read(style, files, window, sys.stdin.buffer)
    print_diagnostics(model.Result(None, result.diagnostics, result.texts), "text")
    if result.diagnostics:
        sys.exit(1)
    if result.text is not None and output is None:
        click.echo(result.text, nl=False)
    elif result.text is not None and output is not None:
        importers.save(output, result.text)
    console = terminal(stderr=True)
    for title, findings in (("changed, as comments in the file tell", result.changed), ("not carried over", result.lost)):
        if findings:
            console.print(f"{title}:", markup=False)
        for f in findings:
            about = f"{f.about}: " if f.about else ""
            console.print(f"  {f.span.file}:{f.span.line}:{f.span.column}: {about}{f.text}", markup=False)
    console.print(result.summary(), markup=False)
    if result.lost or result.text is None:
        sys.exit(3)


@cli.command(epilog="Examples:\n\n\b\n  lgtm up\n  PROMETHEUS_PORT=19090 lgtm up\n")
@click.pass_obj
def up(state: State) -> None:
    """Start everything: get the images, render the spec, start the servers, wait until each is ready."""
    from generator import render, rendered, rollout, stack

    project = state.project
    found, snapshot = read_spec(state)
    artifacts = render.everything(found)
    needs = secrets_for(project, found)
    wanted = rollout.Wanted(found, snapshot, artifacts, needs)
    live, files = False, 0

    def prepare(_: Project) -> dict[str, dict[str, bytes]]:
        # A stack that works keeps its configuration until `apply` has checked the new one inside it.
        nonlocal live, files
        live = stack.status(project).ready
        if not live:
            files = len(rendered.write(project.root, artifacts))
            report(f"rendered {len(artifacts)} files, {files} changed")
        return needs

    result = stack.up(project, report, prepare)
    if live:
        # Also when the files are as they should be: they may have been rendered and never loaded.
        report(rollout.roll_out(project, wanted, report, how="up", prove=False).result.summary())
    else:
        rollout.started(project, wanted, files)
    console = terminal()
    state_word = "up" if result.changed else "already up, nothing changed"
    console.print(f"[bold green]{state_word}[/] after {result.seconds:.1f} s")
    titles = {"collector": "health", "demo": "demo"}
    for name, address in result.addresses.items():
        console.print(f"  {name:<13} {address}{' (' + titles[name] + ')' if name in titles else ''}", markup=False)
    console.print(
        f"  {'OTLP':<13} grpc 127.0.0.1:{project.port('OTLP_GRPC_PORT')}, http 127.0.0.1:{project.port('OTLP_HTTP_PORT')}"
    )
    if "grafana" in result.addresses:
        password = os.path.relpath(result.password_file)
        console.print(f"Sign in to Grafana as {result.grafana_user}; the password is in {password}", markup=False)
    for name, reason in result.left_out.items():
        console.print(f"[yellow]without {name}:[/] {escaped(reason)}")
    if result.changed:
        console.print("Next: `make demo` starts a service that can fail; README.md shows how to break it, and the first edit.")


@cli.command(epilog="Examples:\n\n\b\n  lgtm pull\n  REGISTRY=localhost lgtm pull    # build them, ask no registry\n")
@click.pass_obj
def pull(state: State) -> None:
    """Get the servers' images, or build them where no registry answers. Starts nothing."""
    from generator import stack

    left_out = stack.get_images(state.project, report)
    for name, reason in left_out.items():
        terminal(stderr=True).print(f"[yellow]without {name}:[/] {escaped(reason)}")
    click.echo("the images are here")


@cli.command()
@click.pass_obj
def down(state: State) -> None:
    """Stop the servers. Data and secrets stay."""
    from generator import stack

    click.echo("stopped; the data stays" if stack.down(state.project, report) else "nothing was running")


@cli.command(epilog="Examples:\n\n\b\n  lgtm destroy\n  lgtm destroy --yes    # asks nothing: for scripts\n")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def destroy(state: State, yes: bool) -> None:
    """Delete the servers and all their data. Asks first."""
    from generator import stack

    project = state.project
    volumes = stack.volumes(project)
    if not yes:
        for volume in volumes:
            click.echo(f"  {volume}")
        click.confirm(f"Delete these {len(volumes)} volumes of {project.compose_project} and all data in them?", abort=True)
    stack.destroy(project, report)
    click.echo("deleted")


@cli.command(epilog="Examples:\n\n\b\n  lgtm logs prometheus\n  lgtm logs -f loki tempo\n")
@click.option("-F", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--tail", default=100, show_default=True, help="Lines of each server to begin with.")
@click.argument("servers", nargs=-1)
@click.pass_obj
def logs(state: State, follow: bool, tail: int, servers: tuple[str, ...]) -> None:
    """Print what the servers log."""
    from generator import stack

    for line in stack.logs(state.project, servers, follow=follow, tail=tail):
        click.echo(line)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def status(state: State, as_json: bool) -> None:
    """How each server is, and the memory that it uses now. Exit code 1 when one is not ready."""
    from generator import stack

    now = stack.status(state.project)
    if as_json:
        data = {**dataclasses.asdict(now), "ready": now.ready, "memory": now.memory}
        click.echo(json.dumps(data, indent=2))
    else:
        table = Table(box=None, pad_edge=False)
        wide = Console(width=max(140, terminal().width), highlight=False)
        for column in ("server", "version", "state", "ready", "memory", "address", ""):
            table.add_column(column, justify="right" if column == "memory" else "left", no_wrap=True)
        words = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}
        for s in now.servers:
            memory = "-" if s.memory is None else f"{s.memory / 2**20:.0f} MiB"
            table.add_row(s.name, s.version, s.state, words[s.ready], memory, s.address or "", escaped(s.detail))
        wide.print(table)
        terminal().print(f"memory of the whole stack: {now.memory / 2**20:.0f} MiB", markup=False)
        if now.problem:
            terminal(stderr=True).print(now.problem, markup=False)
    if not now.ready:
        sys.exit(1)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def doctor(state: State, as_json: bool) -> None:
    """Look for what commonly goes wrong on this machine, each with its cure. Changes nothing."""
    from generator import stack

    checks = stack.doctor(state.project)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(c) for c in checks], indent=2))
    else:
        console = terminal()
        marks = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
        for check in checks:
            console.print(f"{marks[check.level]} {escaped(check.name)}: {escaped(check.detail)}")
            if check.cure and check.level != "ok":
                console.print(f"     {check.cure}", markup=False)
    if any(c.level == "fail" for c in checks):
        sys.exit(1)


@cli.command(epilog="Examples:\n\n\b\n  lgtm explain impossible-alert\n  lgtm explain            # lists every code\n")
@click.argument("code", required=False, shell_complete=lambda _c, _p, start: [c for c in CODES if c.startswith(start)])
def explain(code: str | None) -> None:
    """What a diagnostic means: its cause, an example, and the cure."""
    if code is None:
        width = max(map(len, CODES))
        for entry in CODES.values():
            click.echo(f"{entry.name:{width}}  {entry.severity:7}  {entry.cause}")
        return
    if code not in CODES:
        raise LgtmError(f"There is no diagnostic {code!r}.", f"{diagnostics.did_you_mean(code, CODES, 'codes')}")
    click.echo(explain_text(CODES[code]))


@cli.command(
    name="explain-alert",
    epilog="Examples:\n\n\b\n  lgtm explain-alert council-api/availability\n  lgtm explain-alert council-api/latency --json\n",
)
@click.argument("slo", metavar="SERVICE/SLO")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, times in seconds.")
@click.pass_obj
def explain_alert(state: State, slo: str, as_json: bool) -> None:
    """How soon an outage pages, and how soon the page is over: for each condition of an SLO's alerts."""
    from generator import burn

    found = {f"{one.service}/{one.name}": one for one in load_spec(state).slos}
    if slo not in found:
        raise LgtmError(f"There is no SLO {slo!r}.", f"{diagnostics.did_you_mean(slo, found, 'SLOs')}")
    one = found[slo]
    if as_json:
        click.echo(json.dumps(burn.as_json(one), indent=2, ensure_ascii=False))
        return
    spends = f"{one.objective * 100:f}".rstrip("0").rstrip(".")
    click.echo(f"{slo}: {spends}% over {one.window}, policy {one.policy}")
    if not one.burn:
        click.echo("No burn-rate alert: the policy has no condition for it.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("alert", "windows", "burn rate", "bad events above", *(outage.name for outage in burn.outages(one))):
        table.add_column(column, no_wrap=True)
    for row in burn.rows(one):
        table.add_row(*row)
    Console(width=max(150, terminal().width), highlight=False).print(table)
    click.echo("Of an outage of that share of events: when it is noticed / how long after its end the alert is over.")
    click.echo("Scraping, evaluation and grouping add about a minute.")
    if one.minimum_events:
        click.echo(f"The long window must also hold at least {one.minimum_events} bad events.")


@cli.command(epilog="Examples:\n\n\b\n  lgtm schema --output docs/slos.schema.json\n")
@OUTPUT
def schema(output: Path | None) -> None:
    """The JSON Schema of the spec, for editors."""
    from generator import schema

    put(json.dumps(schema.schema(), indent=2, ensure_ascii=False) + "\n", output)


@cli.command(epilog="Examples:\n\n\b\n  lgtm reference --output docs/reference.md\n")
@OUTPUT
def reference(output: Path | None) -> None:
    """Every key, kind, recorded series and diagnostic, as a Markdown page."""
    from generator import reference

    put(reference.markdown(), output)


@cli.command(
    epilog="Examples:\n\n\b\n  lgtm init\n"
    "  lgtm init --organization Acme --owner shop --service checkout --target checkout:8000 --receiver slack\n"
)
@click.option("--organization", help="Whose services these are.")
@click.option("--owner", help="Who is paged: the name of a team.")
@click.option("--service", help="The first service: its OpenTelemetry service.name, or its Prometheus job.")
@click.option("--target", help="host:port of its metrics; '' when it pushes them by OTLP.")
@click.option("--receiver", help="slack, pagerduty, teams, discord, the address of a webhook, or none.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The file; slos.yaml when left out.")
@click.pass_obj
def init(
    state: State,
    output: Path | None,
    organization: str | None,
    owner: str | None,
    service: str | None,
    target: str | None,
    receiver: str | None,
) -> None:
    """Write a first spec from a few answers. Asks for what no option says; overwrites nothing."""
    from generator import first
    from generator.schema import PATH as schema_path  # noqa: N811

    path = output or (Path(state.files[0]) if state.files else Path("slos.yaml"))
    if path.exists():
        raise LgtmError(f"{path} exists; nothing was written.", "Name another file with --output, or move it away.")
    given = {"organization": organization, "owner": owner, "service": service, "target": target, "receiver": receiver}
    checks: dict[str, Callable[[str], str]] = {
        "organization": str.strip,
        "owner": first.check_name,
        "service": first.check_name,
        "target": first.check_target,
        "receiver": first.check_receiver,
    }
    questions = {
        "organization": ("Organization", ""),
        "owner": ("Who is paged (a team's name)", "backend"),
        "service": ("First service (its Prometheus job or service.name)", "checkout"),
        "target": ("host:port of its metrics (a space: it pushes by OTLP)", "host.docker.internal:8000"),
        "receiver": ("Who is told: slack, pagerduty, teams, discord, http://…, none", "none"),
    }
    asked = sys.stdin.isatty()
    answers = {}
    for name, (question, default) in questions.items():
        value = given[name]
        while value is None:
            if not asked:
                raise click.UsageError(f"--{name} is missing, and there is no terminal to ask on.")
            try:
                value = checks[name](click.prompt(question, default=default or None).strip())
            except LgtmError as error:
                click.echo(f"{error.message} {error.hint}", err=True)
        answers[name] = checks[name](value)
    try:
        found = state.project.root / schema_path
        editor = os.path.relpath(found, path.resolve().parent) if found.is_file() else None
    except (LgtmError, ValueError):
        editor = None  # not inside a project, or on another drive
    steps = first.write(path, first.Answers(**answers), editor)
    click.echo(f"{path} is written.")
    for step in steps:
        click.echo(step)


@cli.command(
    epilog="Examples:\n\n\b\n  lgtm completion bash > ~/.local/share/bash-completion/completions/lgtm\n"
    "  lgtm completion zsh > ~/.zfunc/_lgtm\n  lgtm completion fish > ~/.config/fish/completions/lgtm.fish\n"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """The script with which a shell completes this command."""
    kind = get_completion_class(shell)
    if kind is None:
        raise LgtmError(f"{shell} cannot be completed.", "Choose bash, zsh or fish.")
    # Filled in here: click's own source() starts a bash to ask for its version, which nobody needs to read a script.
    maker = kind(cli, {}, "lgtm", "_LGTM_COMPLETE")
    click.echo(maker.source_template % maker.source_vars())


@cli.group(
    name="deploy",
    epilog="Examples:\n\n\b\n  lgtm deploy start --service council-api --version 2.2.0 --commit $GIT_COMMIT\n"
    "  lgtm deploy finish --service council-api --version 2.2.0\n  lgtm deploy figures\n",
)
def deploy_() -> None:
    """Record deployments: shown on dashboards, named by incidents, counted in figures."""


def _record_deployment(status: str, about: str) -> click.Command:
    @click.option("--service", required=True, help="The service that is deployed.")
    @click.option("--version", required=True, help="The version that it gets.")
    @click.option("--commit", default="", help="The commit that it is built from.")
    @click.option(
        "--environment", help="Where to. The environment label of the spec's defaults when left out, else production."
    )
    @click.option("--url", help="The page of the build or release.")
    @click.option("--to", "endpoint", envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="The collector, when not this project's.")
    @click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
    @click.pass_obj
    def command(state: State, /, as_json: bool, service: str, environment: str | None, **given: Any) -> None:
        from generator import deploy, model

        # A spec with errors, or none at all, is no reason to record nothing.
        files, shown = state.spec_files()
        spec = model.load(files, shown, variables=state.variables).model
        if spec is not None and service not in (names := [known.name for known in spec.services]):
            hint = diagnostics.did_you_mean(service, names, "services")
            click.echo(f"warning: {service} is no service of {shown[0]}: no page will show it. {hint.capitalize()}", err=True)
        where = environment or (spec.labels.get("environment") if spec is not None else None) or "production"
        deployment = deploy.record(state.project, status, service=service, environment=where, **given)
        click.echo(json.dumps(deployment.as_json()) if as_json else deployment.sentence())

    return click.command(help=about)(command)


deploy_.add_command(_record_deployment("started", "A deployment begins."), "start")
deploy_.add_command(_record_deployment("succeeded", "A deployment has succeeded."), "finish")
deploy_.add_command(_record_deployment("failed", "A deployment has failed, or is taken back after it succeeded."), "fail")


@deploy_.command()
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 365), help="How far back.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def figures(state: State, days: int, as_json: bool) -> None:
    """Frequency, success rate, change failure rate, duration and time to recovery of each service."""
    from generator import deploy

    found = deploy.figures(state.project, days)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo(f"No deployment was recorded in the last {days} days.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("service", "deployments", "per day", "succeeded", "change failures", "duration", "time to recovery"):
        table.add_column(title, justify="left" if title == "service" else "right")
    for service, f in found.items():
        minutes = [f"{f[k] / 60:.1f} min" if k in f else "-" for k in ("duration_seconds", "time_to_recovery_seconds")]
        shares = [f"{f[k]:.0%}" if k in f else "-" for k in ("success_rate", "change_failure_rate")]
        table.add_row(service, f"{f.get('deployments', 0):.0f}", f"{f['per_day']:.2f}", *shares, *minutes)
    terminal().print(table)


@cli.command(epilog="Examples:\n\n\b\n  lgtm cost\n  lgtm -f big.yaml cost --raw-series 200 --json\n")
@click.option("--raw-series", default=20, show_default=True, help="How many series each raw selector finds.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def cost(state: State, raw_series: int, as_json: bool) -> None:
    """What the rules cost Prometheus, by SLO: rules, recorded series, samples read every 30 s. Computed, not measured."""
    from generator import cost as costs

    if raw_series < 1:
        raise click.UsageError("--raw-series is at least 1.")
    found = costs.of_model(load_spec(state), raw_series)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(c) for c in found], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("SLO", "rules", "series", "samples"):
        table.add_column(title, justify="left" if title == "SLO" else "right")
    everything = costs.total(found)
    for c, title in [*((c, f"{c.service}/{c.slo}") for c in found), (everything, "all")]:
        table.add_row(title, f"{c.rules:.1f}", f"{c.series:.0f}", f"{c.samples:,.0f}")
    terminal().print(table)


def main() -> None:
    """The entry point."""
    cli()
