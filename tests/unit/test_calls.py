"""What people write by habit works, or is answered by one sentence that says what does."""

import enum
import inspect
import subprocess
import sys
import warnings

import pytest

import demur
from demur import checks
from demur.errors import InvalidSetting, WrongType
from tests.scaffold.advice import advises


class Loss(enum.Enum):
    KLD = "kld"


@pytest.mark.parametrize("name", ["PGD L2", "pgd l2", "PGD-L2", "pgd_l2", "PgdL2"])
def test_names_are_taken_in_any_spelling(name):
    assert checks.chosen(name, ["FGSM", "PGD", "PGD L2", "C&W"], "an attack") == "PGD L2"


def test_names_may_be_members_of_enumerations_and_have_others_beside_them():
    assert checks.chosen(Loss.KLD, ["kld", "xent"], "loss_type") == "kld"
    assert checks.chosen("cw", ["C&W"], "an attack") == "C&W"
    assert checks.chosen("carlini_wagner", ["C&W"], "an attack", {"CarliniWagner": "C&W"}) == "C&W"


@pytest.mark.parametrize("value", ["deepfol", "Deep Fouls", "d33pfool"])
def test_a_misspelt_name_is_answered_by_the_nearest(value):
    with advises(InvalidSetting, "an attack is one of 'FGSM', 'DeepFool'; got ") as caught:
        checks.chosen(value, ["FGSM", "DeepFool"], "an attack")
    assert str(caught.value).endswith(": did you mean 'DeepFool'?")


@pytest.mark.parametrize("value", ["autoattack", 3, None, ["FGSM"]])
def test_what_is_near_no_name_is_answered_by_all_of_them(value):
    with pytest.raises(InvalidSetting, match=r"one of 'FGSM', 'DeepFool'; got [^?]*$"):
        checks.chosen(value, ["FGSM", "DeepFool"], "an attack")


@checks.explained
def learn(X, loss_fn=None, *, optimizer=None, epochs=20, seed=0, verbose=True, fpr=None):
    """Learn."""
    if epochs == 0:
        return len(3)  # an error of another call
    return X, loss_fn, optimizer, epochs, seed, verbose, fpr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": 3}, "learn has no argument 'epoch': did you mean epochs=?"),
        ({"n_epochs": 3}, "did you mean epochs=?"),
        ({"lr": 0.1}, "did you mean optimizer=?"),
        ({"loss": "mse"}, "did you mean loss_fn=?"),
        ({"random_state": 0}, "did you mean seed=?"),
        ({"contamination": 0.1}, "did you mean fpr=?"),
        ({"y": [0]}, "learn has no argument 'y': no labels are needed: leave them out"),
        ({"quux": 1}, "learn has no argument 'quux': it takes X, loss_fn, optimizer, epochs, seed, verbose, fpr"),
    ],
)
def test_an_argument_of_another_name_is_answered_by_the_one_that_is_meant(given, said):
    with advises(WrongType, said):
        learn([1], **given)
    assert learn([1], optimizer="adam", epochs=3, seed=0, fpr=0.1)[2:5] == ("adam", 3, 0)


def test_rows_by_another_name():
    with advises(WrongType, "learn has no argument 'x': did you mean X=?"):
        learn(x=[1])
    assert learn(X=[1])[0] == [1]


def test_too_many_arguments_by_position_are_answered_by_how_to_write_them():
    said = "learn takes X and loss_fn by position: write learn(X, loss_fn, optimizer=..., epochs=..., seed=..., "
    with advises(WrongType, f"{said}verbose=..., ...)"):
        learn([1], "mse", "adam", 5)
    assert learn([1], "mse", optimizer="adam", epochs=5)[:4] == ([1], "mse", "adam", 5)


def test_what_is_missing_and_what_goes_wrong_inside_is_told_as_it_is():
    with pytest.raises(WrongType, match="missing 1 required positional argument: 'X'"):
        learn()
    with pytest.raises(TypeError, match="has no len") as caught:
        learn([1], epochs=0)
    assert type(caught.value) is TypeError


def test_functions_that_explain_calls_keep_their_signatures():
    assert list(inspect.signature(learn).parameters)[:3] == ["X", "loss_fn", "optimizer"]
    assert learn.__doc__ == "Learn."


def test_a_warning_is_shown_at_the_line_outside_of_demur():
    inside = {"__name__": "demur.somewhere", "checks": checks}
    exec("def warn():\n    checks.warn('beware')\ndef called():\n    warn()\n", inside)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inside["called"]()
    assert caught[0].filename == __file__


def test_public_modules_are_there_after_import_demur_and_show_public_names_alone():
    for module in set(dir(demur)) - set(demur.__all__) - {"mlflow", "mlserver"}:  # which are large, and alike
        found = getattr(demur, module)
        assert found.__name__ == f"demur.{module}"
        assert set(found.__all__) <= set(dir(found))
        for name in dir(found):
            assert name in found.__all__ or inspect.ismodule(getattr(found, name)), f"{module}.{name}"


def test_import_demur_brings_no_module_along_and_dir_shows_nothing_foreign():
    code = (
        "import sys, demur; dir(demur); print([m for m in sys.modules if m.startswith('demur.')], "
        "[n for n in dir(demur) if n.startswith('_') or n in ('Any', 'TYPE_CHECKING', 'lazy', 'annotations')], "
        "'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['demur._version', 'demur.lazy'] ['__version__'] False"


def test_names_that_are_elsewhere_say_where():
    with pytest.raises(AttributeError, match=r"no attribute 'Monitor': it is demur\.drift\.Monitor"):
        _ = demur.Monitor
    assert demur.drift.Monitor
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        _ = demur.nothing
