"""Every registered predictor keeps the contract."""

from latbench import plugins
from latbench.testing.predictor_suite import PredictorSuite

SETTINGS = {
    "gbdt": {"quick": {"n_estimators": 50}},
    "mlp": {"quick": {"steps": 20}},
    "ridge": {"known_gaps": {"check_non_transformer_estimators_n_iter": "the default solver does not iterate"}},
}

for _name in plugins.names(plugins.PREDICTORS):
    globals()[f"Test_{_name}"] = type(
        f"Test_{_name}", (PredictorSuite,), {"predictor": _name, **SETTINGS.get(_name, {})}
    )
