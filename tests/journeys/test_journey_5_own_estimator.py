"""An own estimator as a probe.

A user brings a classifier: one of scikit-learn, and one in a file.
"""

from helpers.journey import User

OWN = """\
import numpy as np


class Nearest:
    def __init__(self, power=2.0):
        self.power = power

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == one].mean(axis=0) for one in self.classes_])
        return self

    def predict(self, X):
        far = (np.abs(X[:, None] - self.means_) ** self.power).sum(axis=2)
        return self.classes_[far.argmin(axis=1)]
"""


def test_an_own_estimator_is_probed_like_any_other(project):
    (project / "nearest.py").write_text(OWN)
    (project / "broken.py").write_text(
        "class Broken:\n    def fit(self, X, y):\n        return self\n"
    )
    user = User(project)
    user.types(
        59,
        "vsp probe fake-demo --probe sklearn.neighbors:KNeighborsClassifier --probe-option n_neighbors=5"
        " --permutations 0 --controls 0 --no-curve --no-random --n-jobs 1",
        "that a class of scikit-learn works without code", "wrote results/fake-demo/",
    )  # fmt: skip
    user.types(
        60, "vsp probe fake-demo --probe sklearn.neighbors:KNeighborClassifier",
        "the nearest name in the module", "KNeighborsClassifier", code=1,
    )  # fmt: skip
    user.types(
        61,
        "vsp probe fake-demo --probe sklearn.neighbors:KNeighborsClassifier --probe-option n_neighbours=5",
        "the parameter that was meant", "n_neighbors", code=1,
    )  # fmt: skip
    user.types(
        62, "vsp probe fake-demo --probe nearest.py:Nearest --permutations 0 --controls 0 --no-curve --no-random --n-jobs 1",
        "that the file's class works", "wrote results/fake-demo/",
    )  # fmt: skip
    user.types(
        63,
        "vsp probe fake-demo --probe nearest.py:Nearst",
        "the class that was meant",
        "Nearest",
        code=1,
    )
    user.types(
        64, "vsp probe fake-demo --probe nearst.py:Nearest", "that there is no such file",
        "nearst.py", code=1,
    )  # fmt: skip
    user.types(
        65,
        "vsp probe fake-demo --probe broken.py:Broken",
        "which method is missing",
        "predict",
        code=1,
    )
    user.types(66, "vsp report fake-demo", "the newest results, by their class", "Nearest")
