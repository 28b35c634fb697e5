"""The parts of `secrets` that need no engine."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from generator import secrets
from generator.project import DEFAULTS, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, DEFAULTS)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_password_is_made_once(project: Project) -> None:
    said: list[str] = []
    assert secrets.ensure(project, said.append) is True
    path = project.root / "secrets" / "grafana_admin_password"
    first = path.read_text()
    assert len(first) >= 20
    assert first not in " ".join(said)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert secrets.ensure(project, said.append) is False
    assert path.read_text() == first
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_passwords_differ(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Project(tmp_path_factory.mktemp("other"), DEFAULTS)
    secrets.ensure(project)
    secrets.ensure(other)
    assert secrets.read(project, secrets.GRAFANA_PASSWORD) != secrets.read(other, secrets.GRAFANA_PASSWORD)


def test_an_empty_password_is_replaced(project: Project) -> None:
    place = project.root / "secrets"
    place.mkdir()
    (place / secrets.GRAFANA_PASSWORD).touch()
    assert secrets.ensure(project) is True
    assert secrets.read(project, secrets.GRAFANA_PASSWORD)


def test_files_that_are_too_open_are_closed(project: Project) -> None:
    place = project.root / "secrets"
    place.mkdir(mode=0o755)
    for name in ("README.md", "slack_url"):
        (place / name).write_text("x")
        (place / name).chmod(0o644)
    secrets.ensure(project)
    assert mode(place) == 0o700
    assert mode(place / "slack_url") == 0o600
    assert mode(place / "README.md") == 0o644


def test_a_line_break_at_the_end_is_no_part_of_a_secret(project: Project) -> None:
    place = project.root / "secrets"
    place.mkdir()
    (place / "slack_url").write_bytes(b" a b \r\n")
    assert secrets.read(project, "slack_url") == b" a b "


@pytest.mark.parametrize("name", ["../.env", "", ".hidden", "a/b"])
def test_a_name_cannot_lead_out_of_the_directory(project: Project, name: str) -> None:
    (project.root / ".env").write_text("x")
    with pytest.raises(secrets.SecretsError, match="is not the name of a secret"):
        secrets.read(project, name)


def test_missing_and_empty_secrets_are_refused(project: Project) -> None:
    with pytest.raises(secrets.SecretsError, match="slack_url is missing") as refusal:
        secrets.read(project, "slack_url")
    assert "umask 077" in (refusal.value.hint or "")
    (project.root / "secrets").mkdir()
    (project.root / "secrets" / "slack_url").write_text("\n")
    with pytest.raises(secrets.SecretsError, match="is empty"):
        secrets.read(project, "slack_url")


def test_a_place_that_is_a_file_is_an_error_with_a_cure(project: Project) -> None:
    (project.root / "secrets").write_text("")
    with pytest.raises(secrets.SecretsError, match="cannot be written"):
        secrets.ensure(project)


def test_only_servers_that_read_secrets_get_some(project: Project) -> None:
    with pytest.raises(secrets.SecretsError, match="loki is not a server that reads secrets"):
        secrets.sync(project, "loki", {})


def test_the_archive_gives_owner_and_mode_to_directory_and_files() -> None:
    with tarfile.open(fileobj=io.BytesIO(secrets._archive({"b": b"2", "a": b"1"}, (472, 0)))) as archive:
        entries = [(e.name, e.uid, e.gid, e.mode, e.isdir()) for e in archive.getmembers()]
    assert entries == [
        ("lgtm-secrets", 472, 0, 0o500, True),
        ("lgtm-secrets/a", 472, 0, 0o400, False),
        ("lgtm-secrets/b", 472, 0, 0o400, False),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_secret_is_an_error_with_a_cure(project: Project) -> None:
    place = project.root / "secrets"
    place.mkdir()
    (place / "slack_url").write_text("x")
    (place / "slack_url").chmod(0)
    with pytest.raises(secrets.SecretsError, match="cannot be read"):
        secrets.read(project, "slack_url")
