"""What happened to a service, or to one company on it, around a minute: one answer out of Prometheus, Tempo and Loki."""

from generator.incident.answer import Incident
from generator.incident.asking import DEADLINE, investigate
from generator.incident.moment import parse_time, seconds
from generator.incident.telling import as_text

__all__ = ["DEADLINE", "Incident", "as_text", "investigate", "parse_time", "seconds"]
