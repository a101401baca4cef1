"""What ``import jaxsteer`` offers and what it must not do."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import jaxsteer as js
from tests.programs import run_fresh

PACKAGES = [
    "jaxsteer",
    "jaxsteer.audit",
    "jaxsteer.audit.metrics",
    "jaxsteer.audit_report",
    "jaxsteer.baselines",
    "jaxsteer.channels",
    "jaxsteer.compare",
    "jaxsteer.datasets",
    "jaxsteer.estimators",
    "jaxsteer.examples",
    "jaxsteer.export",
    "jaxsteer.families",
    "jaxsteer.ideal",
    "jaxsteer.latent",
    "jaxsteer.linalg",
    "jaxsteer.maps",
    "jaxsteer.models",
    "jaxsteer.moments",
    "jaxsteer.nn",
    "jaxsteer.nn.linen",
    "jaxsteer.pareto",
    "jaxsteer.plots",
    "jaxsteer.solvers",
    "jaxsteer.storage",
    "jaxsteer.streaming",
]
CONTRACT = (
    "Normal MultivariateNormal DiagonalNormal LogNormal MultivariateLogNormal "
    "TransformedNormal LowRankNormal kl_divergence Population "
    "fit_population nearest_ideal Steering gaussian_channel roc_channel RocChannel "
    "balanced_quantiles ScoreMap blind_channel multiclass_channel "
    "AffineMap Status metrics baselines moments estimators datasets plots"
)


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_complete_and_documented(name):
    package = importlib.import_module(name)
    assert package.__doc__
    assert list(package.__all__) == sorted(package.__all__)
    for public in package.__all__:
        thing = getattr(package, public)
        if (
            inspect.isfunction(thing)
            or inspect.isclass(thing)
            or inspect.ismodule(thing)
        ):
            assert inspect.getdoc(thing), f"{name}.{public} has no docstring"


def test_the_contracts_names_are_there():
    missing = [name for name in CONTRACT.split() if not hasattr(js, name)]
    assert not missing


def test_the_first_page_is_short():
    assert len(js.__all__) <= 50
    assert not [name for name in js.__all__ if re.match("kl_(?!divergence$)", name)]


def test_what_is_offered_can_be_read_in_one_sitting():
    # What the front page and a package both offer counts once.
    offered = {}
    for name in PACKAGES:
        package = importlib.import_module(name)
        offered |= {id(getattr(package, public)): public for public in package.__all__}
    assert len(offered) <= 260


def test_each_family_has_its_divergence_by_name():
    loc = js.Normal(0.0, 1.0), js.Normal(1.0, 1.0)
    assert float(js.families.kl_normal(*loc)) == float(js.kl_divergence(*loc)) == 0.5
    names = [name for name in dir(js.families) if name.startswith("kl_")]
    assert len(names) >= 20


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no_such_thing"):
        js.no_such_thing  # noqa: B018


def test_importing_computes_nothing_and_stays_light():
    code = (
        "import sys, jax, jaxsteer; assert not jax.live_arrays(), jax.live_arrays(); "
        "heavy = {'sklearn', 'pandas', 'matplotlib', 'narwhals', 'typer', 'skops'} "
        "& set(sys.modules); assert not heavy, heavy"
    )
    done = run_fresh(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (
            js.nearest_ideal,
            "pop intervention reference maps priors allow_reflection solver "
            "differentiate",
        ),
        (
            js.fit_population,
            "x label group family shrinkage weights",
        ),
        (js.gaussian_channel, "pop subspace reference"),
        (js.balanced_quantiles, "score label group class_weight weights"),
        (js.blind_channel, "score group_probability label group"),
        (js.roc_channel, "score label group bins tolerance weights"),
    ],
)
def test_signatures_are_the_contracts(function, names):
    parameters = list(inspect.signature(function).parameters.values())
    contract = names.split()
    assert [parameter.name for parameter in parameters[: len(contract)]] == contract
    for added in parameters[len(contract) :]:
        assert added.kind is inspect.Parameter.KEYWORD_ONLY
        assert added.default is not inspect.Parameter.empty


def test_importing_loads_nothing_before_a_name_is_used():
    code = (
        "import sys, jaxsteer\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
        "from jaxsteer import linalg\n"
        "assert 'jaxsteer._api' not in sys.modules\n"
        "names = {}\n"
        "exec('from jaxsteer import *', names)\n"
        "assert names['nearest_ideal'] is jaxsteer.nearest_ideal\n"
        "assert set(jaxsteer.__all__) <= set(names)\n"
        "assert 'flax' not in sys.modules\n"
    )
    done = run_fresh(code)
    assert done.returncode == 0, done.stderr
