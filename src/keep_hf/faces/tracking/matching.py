"""Assign the detected faces of a frame to the people who are known already."""

from dataclasses import dataclass

from .person import Detection, Person


# Largest distance between the predicted and the detected place, in sides of the face; it grows with every lost frame.
MAX_DISTANCE, MAX_DISTANCE_GROWTH = 0.5, 0.05
# Least similarities where the place fits, and where only the appearance counts.  On twelve degraded talking heads, one
# person two seconds apart had 0.90 or more in 95 % of the pairs, different people less than 0.81 in 99 %.
POSSIBLE, SAME_PERSON = 0.5, 0.85


@dataclass(frozen=True, order=True)
class Match:
    """A possible assignment.  Matches are ordered by their fields, the best first.

    Args:
        by_appearance_alone (`bool`):
            `False` if motion and appearance fit: every such match precedes all that rest on the appearance alone.
        cost (`float`):
            Distance minus similarity, or minus the similarity alone.
        person (`int`):
            Index of the person.
        detection (`int`):
            Index of the detection.
    """

    by_appearance_alone: bool
    cost: float
    person: int
    detection: int


def match_people(people: list[Person], detections: list[Detection], now: int, max_gap: int) -> list[Match]:
    """Assign detections to people, the best matches first.

    A person who was seen at most `max_gap` frames ago is matched by motion and appearance.  A person who was lost for
    at least one frame is also matched by the appearance alone, wherever the face is.

    Args:
        people (`list[Person]`):
            The people of the scene.
        detections (`list[Detection]`):
            The faces of frame `now`.
        now (`int`):
            Index of the frame.
        max_gap (`int`):
            Number of frames for which a face may be lost before its motion is unknown.

    Returns:
        `list[Match]`: the assignment; no person and no detection occurs twice.
    """
    candidates = [
        match
        for i, person in enumerate(people)
        for j, detection in enumerate(detections)
        for match in _find_matches(person, detection, i, j, now, max_gap)
    ]
    assigned: list[Match] = []
    free_people, free_detections = set(range(len(people))), set(range(len(detections)))
    for match in sorted(candidates):
        if match.person in free_people and match.detection in free_detections:
            assigned.append(match)
            free_people.remove(match.person)
            free_detections.remove(match.detection)
    return assigned


def _find_matches(person: Person, detection: Detection, i: int, j: int, now: int, max_gap: int) -> list[Match]:
    matches = []
    similarity, lost = person.similarity(detection.appearance), now - person.last
    if lost <= max_gap + 1 and similarity > POSSIBLE:
        distance = person.distance(detection.face, now)
        if distance < MAX_DISTANCE + MAX_DISTANCE_GROWTH * (lost - 1):
            matches.append(Match(False, distance - similarity, i, j))
    if lost > 1 and similarity > SAME_PERSON:
        matches.append(Match(True, -similarity, i, j))
    return matches
