"""What holds for every drawing of a figure, found without a renderer."""

from itertools import combinations

from cnnscope.render.figure.scene import Box, Scene, Text, box_of


def texts(scene: Scene) -> list[tuple[Text, Box]]:
    """Every text with the rectangle that it takes."""
    return [(text, box_of(text, scene.font)) for text in scene.texts()]


def overlapping_texts(scene: Scene) -> list[tuple[str, str]]:
    """Texts that run into each other."""
    return [
        (one.text, other.text)
        for (one, a), (other, b) in combinations(texts(scene), 2)
        if a.meets(b, 0.3)
    ]


def overlapping_parts(scene: Scene) -> list[tuple[Box, Box]]:
    """Boxes that stand over each other."""
    return [(a, b) for a, b in combinations(scene.parts, 2) if a.meets(b, 0.3)]


def outside(scene: Scene) -> list[str]:
    """Texts that leave the drawing, and those that are wider than the box that they stand in."""
    found = []
    for text, box in texts(scene):
        wide = box.height if text.turned else box.width
        inside = box.x >= -0.1 and box.y >= -0.1
        inside &= box.right <= scene.width + 0.1 and box.bottom <= scene.height + 0.1
        if not inside or (text.room and wide > text.room + 0.1):
            found.append(text.text)
    return found


def crossed_texts(scene: Scene) -> list[str]:
    """Texts of boxes that leave the box that their middle is in."""
    found = []
    for text, box in texts(scene):
        for part in scene.parts:
            x, y = box.middle
            within = part.x <= x <= part.right and part.y <= y <= part.bottom
            if text.room and within and (box.x < part.x or box.right > part.right):
                found.append(text.text)
    return found


def covered_texts(scene: Scene) -> list[str]:
    """Texts that stand partly on a box and partly beside it."""
    found = []
    for text, box in texts(scene):
        for part in scene.parts:
            inside = part.x <= box.x and box.right <= part.right
            if box.meets(part, 0.3) and not inside:
                found.append(text.text)
    return found
