"""Presets: the parts of the training of published checkpoints that their files do not record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .markers import Mode


@dataclass(frozen=True)
class Preset:
    """Input mode, markers and labels with which a family of checkpoints was trained.

    mode (str): The input mode.
    markers (Mapping[str, str]): The vocabulary entry of each marker.
    labels (tuple[str, ...]): Labels in the order of the classes.
    type_map (str): Name of the map from the entity types of spaCy's models, one of `TYPE_MAPS`.
    """

    mode: Mode
    markers: Mapping[str, str]
    labels: tuple[str, ...]
    type_map: str


# In the order of their classes and vocabulary entries.
_MARKERS = """
    SUBJ_START SUBJ_END OBJ_START OBJ_END SUBJ=PERSON OBJ=TITLE OBJ=PERSON OBJ=CITY
    SUBJ=ORGANIZATION OBJ=DATE OBJ=MISC OBJ=ORGANIZATION OBJ=NATIONALITY OBJ=NUMBER OBJ=RELIGION
    OBJ=URL OBJ=CAUSE_OF_DEATH OBJ=COUNTRY OBJ=DURATION OBJ=STATE_OR_PROVINCE OBJ=LOCATION
    OBJ=CRIMINAL_CHARGE OBJ=IDEOLOGY
"""
_LABELS = """
    no_relation per:title org:top_members/employees per:employee_of org:alternate_names
    org:country_of_headquarters per:countries_of_residence per:age org:city_of_headquarters
    per:cities_of_residence per:stateorprovinces_of_residence per:origin org:subsidiaries
    org:parents per:spouse org:stateorprovince_of_headquarters per:children per:other_family
    org:members per:siblings per:parents per:schools_attended per:date_of_death org:founded_by
    org:member_of per:cause_of_death org:website org:political/religious_affiliation
    per:alternate_names org:founded per:city_of_death org:shareholders
    org:number_of_employees/members per:charges per:city_of_birth per:date_of_birth per:religion
    per:stateorprovince_of_death per:stateorprovince_of_birth per:country_of_birth org:dissolved
    per:country_of_death
"""

# SpanBERT fine-tuned on TACRED with its `run_tacred` program in its default mode (Joshi et al.
# 2020), for example the checkpoint mrm8488/spanbert-base-finetuned-tacred. The program numbers
# markers and classes in the order in which they occur in the data, and does not save the numbers.
SPANBERT_TACRED = Preset(
    mode="ner",
    markers={name: f"[unused{i}]" for i, name in enumerate(_MARKERS.split(), start=1)},
    labels=tuple(_LABELS.split()),
    type_map="ontonotes-tacred",
)

PRESETS: dict[str, Preset] = {"spanbert-tacred": SPANBERT_TACRED}
