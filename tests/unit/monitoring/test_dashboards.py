"""What Grafana needs to show a dashboard: places that do not overlap, unique ids, known variables, a legend per query."""

import itertools
import re

import pytest

from localmodel.monitoring.grafana import GRID_COLUMNS, render_dashboard
from localmodel.monitoring.queries import DASHBOARDS

RENDERED = [pytest.param(render_dashboard(each), id=each.uid) for each in DASHBOARDS]


def overlap(one, other):
    sides = (("x", "w"), ("y", "h"))
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in sides)


@pytest.mark.parametrize("dashboard", RENDERED)
def test_panels_lie_side_by_side_on_the_grid(dashboard):
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= GRID_COLUMNS for place in places)
    assert [pair for pair in itertools.combinations(places, 2) if overlap(*pair)] == []


@pytest.mark.parametrize("dashboard", RENDERED)
def test_ids_titles_and_references_are_unique(dashboard):
    panels = dashboard["panels"]
    for values in ([panel["id"] for panel in panels], [panel["title"] for panel in panels]):
        assert len(values) == len(set(values))
    for panel in panels:
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(references) == len(set(references))


@pytest.mark.parametrize("dashboard", RENDERED)
def test_every_panel_is_explained_and_uses_the_chosen_data_source(dashboard):
    for panel in (panel for panel in dashboard["panels"] if panel["type"] != "row"):
        assert panel["description"].endswith(".")
        assert panel["targets"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("dashboard", RENDERED)
def test_queries_use_variables_that_exist(dashboard):
    known = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    assert {name for query in queries for name in re.findall(r"\$\{?(\w+)", query)} <= known


@pytest.mark.parametrize("dashboard", RENDERED)
def test_legends_show_labels_that_survive_the_aggregation(dashboard):
    for target in (target for panel in dashboard["panels"] for target in panel.get("targets", ())):
        kept = re.search(r"by \(([^)]*)\)", target["expr"])
        if kept:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(kept[1].split(", "))
