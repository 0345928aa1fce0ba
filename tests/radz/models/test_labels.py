"""How common findings are among the training labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from radz.models.labels import LabelView, training_log_odds

NAN = float("nan")


def test_log_odds_are_those_of_the_known_training_labels() -> None:
    """Two corpora: in one silence is absence, in the other unknown. What no study knows has even odds."""
    policy = torch.tensor([[0.0, 1, NAN, 0], [0, 1, NAN, NAN]])[:, None].expand(2, 3, 4)
    view = LabelView(("edema", "nodule", "mass"), ("edema", "nodule", "mass"), policy, policy)
    states = np.array([[1, 3, 3], [3, 3, 2], [1, 1, 3], [3, 0, 3], [1, 1, 1]], dtype=np.int8)
    table: Any = SimpleNamespace(
        states=states, corpus=np.array([0, 0, 1, 1, 0]), rows=lambda split: np.array([0, 1, 2, 3])
    )
    found = training_log_odds(view, SimpleNamespace(table=table), ["edema", "mass", "nodule"])  # type: ignore[arg-type]
    # edema: present in 0 and 2, absent in 1; mass: absent in 0; nodule: absent in 0, 1, 3, present in 2
    wanted = [np.log(2.5 / 1.5), np.log(0.5 / 1.5), np.log(1.5 / 3.5)]
    assert np.allclose(found.numpy(), wanted)
