"""What pages of earlier versions import is still where they say."""

import importlib

import pytest

OLD = {
    "demur.ad": ["AdversarialAE", "ModelDistillation"],
    "demur.batch.ray": ["Answering"],
    "demur.batch.spark": ["answers_udf"],
    "demur.calibration": ["Calibration", "ScoreDistribution", "benjamini_hochberg", "conformal_threshold"],
    "demur.classes": ["Classes"],
    "demur.classifiers": ["SOURCES", "BlackBoxClassifier", "GraphClassifier", "register", "source_of"],
    "demur.classifiers.keras_model": ["KerasClassifier"],
    "demur.cli": ["build_parser"],
    "demur.companion": ["check_companion", "ready_shape"],
    "demur.datasets": ["load"],
    "demur.detectors": ["CorrectResult", "Detector", "Meta", "PredictResult"],
    "demur.divergence": ["DIVERGENCES", "jeffreys", "kl", "length", "log_softmax", "sharpen", "uncertainty"],
    "demur.drift": ["Monitor", "calibrate_accuracy", "estimate_accuracy", "test"],
    "demur.drift.conditional": ["conditional_p_values"],
    "demur.drift.evidence": ["Evidence", "Martingale", "Observed"],
    "demur.evaluation.attacks": ["FGSM", "PGD", "Attack", "Attacked", "WeightedPGD"],
    "demur.evaluation.attacks.adaptive": ["AdaptiveAttack"],
    "demur.evaluation.attacks.climbing": ["lead", "unnoticed"],
    "demur.evaluation.baselines": ["Baseline"],
    "demur.evaluation.corruptions": ["corrupt"],
    "demur.evaluation.corruptions.images": ["corruption"],
    "demur.evaluation.norms": ["random_change"],
    "demur.evaluation.target": ["Target"],
    "demur.export": ["Exported", "export"],
    "demur.export.precision": ["Loss"],
    "demur.graph": ["Half", "Opinion", "Views"],
    "demur.metrics": ["auroc", "evaluate_scores", "flagged_rate", "split_by_harm"],
    "demur.mlflow": ["_load_pyfunc", "load_model", "log_model", "save_model", "signature"],
    "demur.mlserver": ["GuardRuntime"],
    "demur.nets": ["autoencoder", "learn_scales", "student", "token_student"],
    "demur.plots.style": ["BAD", "CLEAN", "INK", "MUTED", "PALETTE"],
    "demur.pyod": ["DemurDetector"],
    "demur.report": ["summary", "write_report"],
    "demur.results": ["CorrectData", "CorrectResult", "PredictData", "PredictResult", "Result"],
    "demur.runtime": ["Guard", "load"],
    "demur.saving": ["load_detector", "save_detector"],
    "demur.sklearn": ["DemurOutlierDetector"],
    "demur.starting": ["start_keras"],
    "demur.summary": ["Summary"],
    "demur.testing": ["CHECKS", "FRESH_CHECKS", "READING_CHECKS"],
}
PACKAGES = {"demur.mlflow": "mlflow", "demur.mlserver": "mlserver", "demur.pyod": "pyod", "demur.batch.ray": "pyarrow"}
"""What some of them need besides."""


@pytest.mark.filterwarnings("ignore:.*Any type hint")  # of MLflow, when it is imported
@pytest.mark.parametrize("module", OLD)
def test_a_path_of_earlier_versions_leads_on(module):
    if module in PACKAGES:
        pytest.importorskip(PACKAGES[module])
    found = importlib.import_module(module)
    assert [name for name in OLD[module] if not hasattr(found, name)] == []
