"""The conventions of a detector, each a check: what demur's own detectors keep, and what yours should.

A check is a function `check_<convention>(make_detector, X)` that raises AssertionError, saying what was broken. Its
docstring states the convention. `make_detector` takes nothing and returns a fresh detector, always on one and the same
classifier and drawing nothing from global random generators; `X` is a small batch of normal data, 20 rows at least.

All of them, with pytest:

```python
@pytest.mark.parametrize("check", demur.testing.CHECKS)
def test_my_detector(check):
    check(lambda: MyDetector(model=classifier), X)
```

Examples:
    >>> demur.testing.check_rows_are_independent(lambda: detector, X_new)
"""

from demur.testing.answers import (
    check_a_detector_and_its_results_print_in_a_few_lines,
    check_an_untrained_companion_is_not_asked,
    check_any_scale_and_temperature_give_a_score,
    check_any_threads_may_share_a_detector,
    check_arrays_may_be_read_only,
    check_batching_is_invisible,
    check_correct_takes_the_opinion_where_flagged,
    check_flagged_is_strictly_above_the_threshold,
    check_meta_is_a_copy,
    check_numbers_score_as_their_float32,
    check_predict_and_correct_return_what_they_promise,
    check_predictions_are_distributions,
    check_rows_are_independent,
    check_scores_equal_the_definition,
    check_threshold_is_required_first,
)
from demur.testing.files import (
    check_a_failed_save_leaves_the_old_detector,
    check_save_and_load_give_the_same_detector,
    check_save_replaces_the_old_detector,
)
from demur.testing.fits import (
    check_a_preprocess_fn_sees_each_training_batch,
    check_a_seed_gives_one_result,
    check_callbacks_are_called,
    check_checkpoints_hold_the_companion,
    check_early_stopping_stops,
    check_every_weight_of_the_companion_moves,
    check_fit_learns,
    check_log_metric_is_reported,
    check_loss_fn_takes_the_place_of_the_divergence,
    check_loss_is_the_mean_divergence,
    check_optimizer_is_the_one_given,
    check_the_companion_trains_in_training_mode,
    check_validation_data_is_reported,
    check_verbose_is_obeyed,
)
from demur.testing.promises import (
    check_a_network_that_returns_nan_never_passes,
    check_fdr_control_needs_calibration,
    check_fit_forgets_what_was_inferred,
    check_fpr_is_kept_on_the_calibration_data,
    check_groups_have_thresholds_of_their_own,
    check_invalid_rows_are_an_error,
    check_invalid_rows_can_be_flagged,
    check_labels_choose_what_calibrates,
    check_p_values_are_their_definition,
)
from demur.testing.shared import Check, MakeDetector
from demur.testing.traces import (
    check_arrays_are_unchanged,
    check_classifier_is_untouched,
    check_global_random_state_is_unchanged,
)

READING_CHECKS: list[Check] = [
    check_a_detector_and_its_results_print_in_a_few_lines,
    check_arrays_may_be_read_only,
    check_batching_is_invisible,
    check_correct_takes_the_opinion_where_flagged,
    check_flagged_is_strictly_above_the_threshold,
    check_meta_is_a_copy,
    check_numbers_score_as_their_float32,
    check_predict_and_correct_return_what_they_promise,
    check_predictions_are_distributions,
    check_rows_are_independent,
    check_save_and_load_give_the_same_detector,
    check_a_failed_save_leaves_the_old_detector,
    check_a_network_that_returns_nan_never_passes,
    check_fdr_control_needs_calibration,
    check_fpr_is_kept_on_the_calibration_data,
    check_groups_have_thresholds_of_their_own,
    check_invalid_rows_are_an_error,
    check_invalid_rows_can_be_flagged,
    check_labels_choose_what_calibrates,
    check_p_values_are_their_definition,
]
"""Those that change nothing of a detector but its threshold and calibration: one fitted detector can serve them all."""

FRESH_CHECKS: list[Check] = [
    check_a_preprocess_fn_sees_each_training_batch,
    check_a_seed_gives_one_result,
    check_an_untrained_companion_is_not_asked,
    check_any_scale_and_temperature_give_a_score,
    check_any_threads_may_share_a_detector,
    check_arrays_are_unchanged,
    check_callbacks_are_called,
    check_checkpoints_hold_the_companion,
    check_classifier_is_untouched,
    check_early_stopping_stops,
    check_every_weight_of_the_companion_moves,
    check_fit_forgets_what_was_inferred,
    check_fit_learns,
    check_global_random_state_is_unchanged,
    check_log_metric_is_reported,
    check_loss_fn_takes_the_place_of_the_divergence,
    check_loss_is_the_mean_divergence,
    check_optimizer_is_the_one_given,
    check_save_replaces_the_old_detector,
    check_the_companion_trains_in_training_mode,
    check_threshold_is_required_first,
    check_validation_data_is_reported,
    check_verbose_is_obeyed,
]
"""Those that fit, or need a detector that nothing was asked of yet."""

CHECKS: list[Check] = [*READING_CHECKS, *FRESH_CHECKS]
"""Every check that needs a detector and data alone. `check_scores_equal_the_definition` needs the definition too."""

__all__ = ["CHECKS", "FRESH_CHECKS", "READING_CHECKS", "Check", "MakeDetector", "check_scores_equal_the_definition"]
__all__ += [check.__name__ for check in CHECKS]
__dir__ = __all__.copy
