"""fixtures/training/scores.json: average precision and F1 of several labels, by scikit-learn.

    scores.py OUT_FOLDER

Logit and presence of label `k` in picture `n` come from element `n * classes + k` of the hashes of `NAME/logits`
and `NAME/there`: `logit = 8u - 4`, in steps of `1 / grain` where there is one, so that scores tie; the label is
there where `u < share * k`, so that nobody has the first one.
"""

import pathlib
import sys
import warnings

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, f1_score

import fixture
from hashing import uniform


def case(name, images, classes, grain, share):
    u = uniform(f"{name}/logits", images * classes).astype(np.float64)
    logits = 8 * u - 4
    if grain:
        logits = np.floor(logits * grain) / grain
    logits = logits.reshape(images, classes)
    chance = uniform(f"{name}/there", images * classes).astype(np.float64).reshape(images, classes)
    there = (chance < share * np.arange(classes)).astype(int)
    with warnings.catch_warnings():
        # Labels that nobody has: they have no average precision, and an F1 of 0.
        warnings.simplefilter("ignore")
        precisions = [
            float(average_precision_score(there[:, k], logits[:, k])) if there[:, k].any() else None
            for k in range(classes)
        ]
        said = (logits > 0).astype(int)
        macro, micro = (float(f1_score(there, said, average=a, zero_division=0)) for a in ("macro", "micro"))
    known = [p for p in precisions if p is not None]
    return {
        "name": name,
        "images": images,
        "classes": classes,
        "grain": grain,
        "share": share,
        "precisions": precisions,
        "map": float(np.mean(known)),
        "f1_macro": macro,
        "f1_micro": micro,
    }


def main():
    cases = [
        case("few", 5, 3, 0, 0.3),
        case("plain", 60, 6, 0, 0.15),
        case("ties", 60, 6, 1, 0.15),
        case("coarse", 41, 4, 0.25, 0.25),
        case("rare", 200, 5, 4, 0.01),
    ]
    out = pathlib.Path(sys.argv[1]) / "training" / "scores.json"
    fixture.write(out, "scores.py", 0, {"sklearn": sklearn.__version__, "cases": cases})


if __name__ == "__main__":
    main()
