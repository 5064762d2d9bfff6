import dataclasses
from pathlib import Path

import pytest

from robot_servers.app import create_app
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend
from serl_core import config, image_config
from serl_core.agents.policy import PolicyConfig
from serl_core.agents.sac import SacConfig

DOCS = Path(__file__).parents[2] / "docs"
CONFIGS = [
    *(
        kind
        for module in (config, image_config)
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    ),
    SacConfig,
    PolicyConfig,
]


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_every_field_of_the_configuration_is_documented(kind):
    page = (DOCS / "reference" / "config.md").read_text()
    assert [field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in page] == []


def test_every_route_of_the_robot_server_is_documented():
    page = (DOCS / "reference" / "robot-api.md").read_text()
    paths = create_app(RobotService(PointMassBackend()), "token").openapi()["paths"]
    assert [path for path in paths if path.replace("{number}", "{id}") not in page] == []


def test_every_link_between_pages_leads_somewhere():
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    links = [
        (page.name, target)
        for page in pages
        for target in (part.split(")")[0].split("#")[0] for part in page.read_text().split("](")[1:])
        if not target.startswith("http") and not (page.parent / target).exists()
    ]
    assert links == []
