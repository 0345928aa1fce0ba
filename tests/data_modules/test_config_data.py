from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from data_modules.config import DataConfig
from data_modules.errors import InputError, nearest

LABEL = {"column": "finding", "equals": "1"}


def resolve(values: dict[str, Any]) -> DataConfig:
    """As the upper floor does it."""
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), OmegaConf.create(values)))
    assert isinstance(config, DataConfig)
    return config


def test_contract_example_resolves() -> None:
    text = """
    corpora:
      - reader: table
        root: /data/ours
        csv: metadata.csv
        split_csv: {file: split.csv, key: filename}
        columns: {image: filename, patient: patientid, report: clinical_notes, view: view}
        keep: {view: [PA, AP, AP Supine]}
        labels:
          covid19: {column: finding, contains: COVID-19}
          effusion: {column: Finding Labels, token: Effusion, separator: "|"}
          edema: {column: Edema, numeric: {1: present, 0: absent, -1: uncertain, blank: unmentioned}}
        findings:
          lipoid_pneumonia: {parent: pneumonia}
    """
    config = resolve(OmegaConf.create(text))  # type: ignore[arg-type]
    corpus = config.corpora[0]
    assert corpus.labels["edema"].numeric == {1: "present", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
    assert corpus.columns.patient == "patientid" and corpus.keep["view"] == ["PA", "AP", "AP Supine"]
    assert corpus.split_csv is not None and corpus.split_csv.split == "split"
    assert resolve({}) == DataConfig()


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"resize": "pda"}, "data.resize"),
        ({"image_size": 4}, "data.image_size"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"workers": -1}, "data.workers"),
        ({"mask_terms": [" "]}, "data.mask_terms"),
        ({"limit": {"val": 0}}, "data.limit.val"),
        ({"augment": {"scale": [1.2, 0.8]}}, "data.augment.scale"),
        ({"augment": {"contrast": 2.0}}, "data.augment.contrast"),
        ({"corpora": [{}, {"modality": "xray"}]}, "data.corpora.1.modality"),
        ({"corpora": [{"labels": {"mass": {"equals": "1"}}}]}, "data.corpora.0.labels.mass.column"),
        ({"corpora": [{"labels": {"mass": {"column": "x"}}}]}, "data.corpora.0.labels.mass"),
        ({"corpora": [{"labels": {"mass": {**LABEL, "token": "x"}}}]}, "equals, contains, token, numeric"),
        ({"corpora": [{"labels": {"mass": {**LABEL, "equals": ""}}}]}, "data.corpora.0.labels.mass.equals"),
        ({"corpora": [{"labels": {"mass": {**LABEL, "blank": "no"}}}]}, "data.corpora.0.labels.mass.blank"),
        ({"corpora": [{"labels": {"mass": {"column": "x", "numeric": {1: "presnt"}}}}]}, "numeric.1"),
        ({"corpora": [{"labels": {"mass": {"column": "x", "numeric": {"yes!": "present"}}}}]}, "'yes!'"),
        ({"corpora": [{"policy": {"uncertain": "zeros"}}]}, "data.corpora.0.policy.uncertain"),
        ({"corpora": [{"policy": {"per_finding": {"edema": "present"}}}]}, "per_finding"),
        ({"corpora": [{"policy": {"unmentioned": {"loss": "present"}}}]}, "policy.unmentioned.loss"),
        ({"corpora": [{"bad": {"on_missing_image": "keep"}}]}, "data.corpora.0.bad.on_missing_image"),
        ({"corpora": [{"split_fractions": {"train": 0.9}}]}, "data.corpora.0.split_fractions"),
        ({"corpora": [{"split_csv": {"file": "a.csv"}}]}, "data.corpora.0.split_csv"),
        ({"corpora": [{"report_sections": []}]}, "data.corpora.0.report_sections"),
        ({"corpora": [{"keep": {"view": []}}]}, "data.corpora.0.keep.view"),
        ({"corpora": [{"phantom": {"image_px": 8}}]}, "data.corpora.0.phantom.image_px"),
    ],
)
def test_faults_name_the_key_in_one_line(values: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(values)
    assert key in str(caught.value) and "\n" not in str(caught.value)


def test_nearest_ignores_case_and_lists_known_names_when_nothing_is_alike() -> None:
    assert nearest("PATIENTID", ["image", "patientid"]) == "; nearest is 'patientid'"
    assert nearest("zzz", ["image", "view"]) == "; known are image, view"
    assert nearest("zzz", []) == ""
