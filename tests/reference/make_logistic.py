"""Writes logistic.json: scikit-learn's logistic regression on the features of probe/, standardised, C = 1.

    python make_logistic.py FOLDER_OF_PROBE FILE      (numpy, scikit-learn, safetensors)
"""
import json, sys
import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

def standard(x):
    x = x.astype(np.float64)
    return (x - x.mean(0)) / x.std(0)

out = {}
t = load_file(f"{sys.argv[1]}/lars-multiclass.safetensors")
x, y = standard(t["features"]), t["labels"]
m = LogisticRegression(C=1, tol=1e-10, max_iter=100000).fit(x, y)
p = m.predict_proba(x)
n = len(y)
out["classes"] = {"weight": m.coef_.tolist(), "loss": float(-np.log(p[np.arange(n), y]).mean() + (m.coef_ ** 2).sum() / (2 * n)),
                  "probability": p[:5].tolist()}
t = load_file(f"{sys.argv[1]}/lars-multilabel.safetensors")
x, y = standard(t["features"]), t["labels"]
each = [LogisticRegression(C=1, tol=1e-10, max_iter=100000).fit(x, y[:, k]) for k in range(y.shape[1])]
out["labels"] = {"weight": [m.coef_[0].tolist() for m in each], "bias": [float(m.intercept_[0]) for m in each]}
json.dump(out, open(sys.argv[2], "w"))
