"""Every detector x every convention: `demur.testing.CHECKS`, on each way to make a detector."""

import functools
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import demur.detectors
from demur import testing
from demur.detectors import AdversarialAE, Detector, ModelDistillation
from demur.testing import CHECKS, FRESH_CHECKS, READING_CHECKS
from tests.scaffold import models, published


@dataclass(frozen=True)
class Case:
    """One way to make a detector, and what to check on it. All ways get the reading checks and the definition."""

    name: str
    make: Callable[[], Any]
    definition: Callable[[Any, Any], Any]
    fresh_checks: tuple[Any, ...] = ()
    rows: Callable[[], Any] = models.digits

    @property
    def X(self):  # noqa: N802
        return self.rows()[0][:32]


def small_ae(**settings):
    return AdversarialAE(model=models.cnn(), encoder_net=models.encoder(), decoder_net=models.decoder(), **settings)


# Each detector's first case gets every check. The others get those that their difference can break.
CASES = {
    "AdversarialAE": [
        Case("encoder and decoder", small_ae, published.adversarial_ae, tuple(FRESH_CHECKS)),
        Case(
            "default",
            lambda: AdversarialAE(model=models.cnn(), data_type="image", seed=5),
            published.adversarial_ae,
            (
                testing.check_an_untrained_companion_is_not_asked,
                testing.check_every_weight_of_the_companion_moves,
                testing.check_global_random_state_is_unchanged,
            ),
        ),
        Case(
            "hidden layers",
            lambda: small_ae(
                hidden_layer_kld={"hidden": 5, 1: 7, -2: 3}, w_model_hl=[1, 0.5, 2], temperature=0.7, score_type="kld"
            ),
            published.adversarial_ae,
            (
                testing.check_any_scale_and_temperature_give_a_score,
                testing.check_classifier_is_untouched,
                testing.check_global_random_state_is_unchanged,
                testing.check_loss_fn_takes_the_place_of_the_divergence,
                testing.check_loss_is_the_mean_divergence,
            ),
        ),
        Case(
            "model_hl",
            lambda: small_ae(model_hl=models.hidden_models(), w_model_hl=[0.5, 1.5], score_type="kld"),
            published.adversarial_ae,
            (testing.check_classifier_is_untouched, testing.check_loss_is_the_mean_divergence),
        ),
        Case(
            "subclassed autoencoder",
            lambda: AdversarialAE(model=models.cnn(), ae=models.SubclassedAE()),
            published.adversarial_ae,
            (
                testing.check_a_seed_gives_one_result,
                testing.check_checkpoints_hold_the_companion,
                testing.check_early_stopping_stops,
                testing.check_every_weight_of_the_companion_moves,
                testing.check_loss_is_the_mean_divergence,
                testing.check_the_companion_trains_in_training_mode,
            ),
        ),
        Case(
            "logits",
            lambda: AdversarialAE(
                model=models.logits_cnn(), encoder_net=models.encoder(), decoder_net=models.decoder(), from_logits=True
            ),
            published.adversarial_ae,
            (testing.check_any_scale_and_temperature_give_a_score,),
        ),
        Case(
            "subclassed classifier",
            lambda: AdversarialAE(
                model=models.subclassed(), encoder_net=models.encoder(), decoder_net=models.decoder(), temperature=1.5
            ),
            published.adversarial_ae,
            (
                testing.check_any_scale_and_temperature_give_a_score,
                testing.check_classifier_is_untouched,
                testing.check_loss_is_the_mean_divergence,
            ),
        ),
        Case(
            "rows of a table",
            lambda: AdversarialAE(model=models.tabular(), data_type="tabular"),
            published.adversarial_ae,
            (testing.check_fit_learns,),
            rows=models.wine,
        ),
    ],
    "ModelDistillation": [
        Case(
            "kld",
            lambda: ModelDistillation(model=models.cnn(), distilled_model=models.student()),
            published.model_distillation,
            tuple(FRESH_CHECKS),
        ),
        Case(
            "default",
            lambda: ModelDistillation(model=models.cnn(), data_type="image", seed=5),
            published.model_distillation,
            (testing.check_an_untrained_companion_is_not_asked, testing.check_every_weight_of_the_companion_moves),
        ),
        Case(
            "xent",
            lambda: ModelDistillation(
                model=models.cnn(),
                distilled_model=models.student(),
                loss_type="xent",
                score_type="xent",
                temperature=0.8,
            ),
            published.model_distillation,
            (testing.check_any_scale_and_temperature_give_a_score, testing.check_loss_is_the_mean_divergence),
        ),
        Case(
            "live student",
            lambda: ModelDistillation(model=models.cnn(), distilled_model=models.live_student()),
            published.model_distillation,
            (testing.check_fit_learns, testing.check_the_companion_trains_in_training_mode),
        ),
        Case(
            "subclassed classifier",
            lambda: ModelDistillation(
                model=models.subclassed(), distilled_model=models.student(), temperature=2.0, seed=1
            ),
            published.model_distillation,
            (testing.check_loss_is_the_mean_divergence,),
        ),
        Case(
            "rows of a table",
            lambda: ModelDistillation(model=models.tabular(), data_type="tabular"),
            published.model_distillation,
            rows=models.wine,
        ),
    ],
}

EVERY_CASE = [(detector, case) for detector, cases in CASES.items() for case in cases]


def name_of(detector, case, check):
    return f"{detector}-{case.name.replace(' ', '_')}-{check.__name__.removeprefix('check_')}"


@functools.cache
def the_one(detector, name):
    """The one detector of a case for all checks that only read, its companion as if it was fitted."""
    found = next(case for case in CASES[detector] if case.name == name).make()
    models.moved(found.companion)
    return found


def shared(detector, case):
    def make():
        found = the_one(detector, case.name)
        found.threshold = found.calibration = None
        return found

    return make


@pytest.mark.each("check")
@pytest.mark.parametrize(
    ("detector", "case", "check"),
    [pytest.param(d, c, check, id=name_of(d, c, check)) for d, c in EVERY_CASE for check in READING_CHECKS],
)
def test_reading(detector, case, check):
    check(shared(detector, case), case.X)


@pytest.mark.parametrize(
    ("detector", "case"), [pytest.param(d, c, id=f"{d}-{c.name.replace(' ', '_')}") for d, c in EVERY_CASE]
)
def test_definition(detector, case):
    testing.check_scores_equal_the_definition(shared(detector, case), case.X, case.definition)


@pytest.mark.each("check")
@pytest.mark.parametrize(
    ("detector", "case", "check"),
    [pytest.param(d, c, check, id=name_of(d, c, check)) for d, c in EVERY_CASE for check in c.fresh_checks],
)
def test_fresh(detector, case, check):
    check(case.make, case.X)


def own_detectors():
    """The registered detectors of the package itself; other tests may register some of their own."""
    return {name: cls for name, cls in Detector.registry.items() if cls.__module__.startswith("demur.")}


def test_every_detector_has_cases():
    assert set(own_detectors()) == set(CASES), "give a new detector its cases in CASES, the first with every check"
    for name, cases in CASES.items():
        assert isinstance(cases[0].make(), own_detectors()[name])
        assert set(cases[0].fresh_checks) == set(FRESH_CHECKS)


def test_every_file_of_a_detector_is_imported():
    own = {"base", "copies", "restored", "saved", "storage"}
    files = {module.name for module in pkgutil.iter_modules(demur.detectors.__path__)} - own
    imported = {cls.__module__.rpartition(".")[2] for cls in own_detectors().values()}
    assert files == imported, "give a new detector its import line in detectors/__init__.py"
    assert set(own_detectors()) <= set(demur.detectors.__all__)


def test_every_check_is_listed_and_states_its_convention():
    found = {name: value for name, value in vars(testing).items() if name.startswith("check_")}
    listed = {*CHECKS, testing.check_scores_equal_the_definition}
    assert set(found.values()) == listed, "give a new check its place in CHECKS"
    assert len(CHECKS) == len(set(CHECKS))
    assert all(check.__doc__ for check in listed)
