"""The table of forms: what its reader refuses, what has forms, what each form draws, and that writers have habits."""

import dataclasses

import numpy as np
import pytest

import synthesize_etl9g
from characters.class_lists import class_list
from characters.jis import etl9g_classes
from characters.kinds import is_hiragana, kind_of
from files.command_line import InputError
from handwriting import forms, reshaping, variation, writer
from handwriting import forms_sheet as sheets
from handwriting.forms import chosen_forms, forms_of_table, read_forms
from handwriting.forms_sheet import examples
from handwriting.page import draw_character
from handwriting.reshaping import reshaped
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer

FORMS = forms_of_table()
WRITERS = [new_writer(np.random.default_rng(seed)) for seed in range(400)]
HIRAGANA = "".join(filter(is_hiragana, etl9g_classes()))
# These have all the components of the table between them.
KANJI = (
    "驚馨窺縫壊擬懲簿謂糠酵歳寡悟鯵錦姿癖霧顧掌四祈蛍瀞荻聞防起饗襟劇葬踏"
    "漣磯溢鵜勲牲出飲羽梶気恐業考八九人長二年本亥印演艶箇回皆浬嚇勘眼係才罪栂"
)
KATAKANA = "".join(char for char in class_list("kana") if kind_of(char) == "katakana")
OTHERS = "曰孑"
# The components that KanjiVG's trees of the level-1 kanji have most often, the commonest first.
COMMONEST = """丿口一日木十八亠亻土丶丨冖氵目大人艹月厂儿田扌又冂宀厶灬乂卜貝二糸言𠂉心亅勹匕女立小𠂊弋寸金米⺕⻌
夂隹王广廾禾尸山三中戈刂攵士几力夕竹巾卩虫止冫白⻖忄石火刀頁凵車里彳子⺤罒弓酉斤示工耂用耳龶囗"""


@pytest.fixture(scope="module")
def shown():
    """Each form with characters that have it and with their strokes."""
    return list(zip(FORMS, examples(list(FORMS), 1, HIRAGANA + KANJI + KATAKANA + OTHERS), strict=True))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("口/3 .5\n  curl 0 1", 2, "unknown verb curl"),
        ("# boxes\n\n口/3 .5\n  join 3", 4, "there is no stroke 3: they are counted from 0 to 2"),
        ("口/3 .5\n  join 2-1", 2, "there is no stroke 2-1"),
        ("A/3 .5", 1, "unknown character A"),
        ("口/3 1.5", 1, "a share lies between 0 and 1, not at 1.5"),
        ("口/3 .2-1.1", 1, "a share lies between 0 and 1"),
        ("口/3 .5 one\n口/3 .6 two", 2, "the shares of the habit 口 add up to more than 1"),
        ("口 .5", 1, "a form starts with CHARACTERS/STROKES SHARE"),
        ("口/3 -.5", 1, "a form starts with CHARACTERS/STROKES SHARE"),
        ("  join 0", 1, "a form starts with CHARACTERS/STROKES SHARE"),
        ("口/3 .5\n  move 0 1", 2, "move takes 2 numbers"),
        ("口/3 .5\n  join 0 1", 2, "join takes 0 numbers"),
        ("口/3 .5\n  move 0 1 x", 2, "cannot be read"),
        ("口/3 .5\n  move", 2, "cannot be read"),
        ("口/3 .5\n  draw 0 10,20", 2, "a line takes two points or more, such as 0,50 100,45"),
        ("口/3 .5\n  draw 0 10,20 30", 2, "a line takes two points or more"),
    ],
)
def test_a_mistake_in_the_table_is_named_with_its_line(text, line, says, tmp_path):
    path = tmp_path / "forms.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_forms(path)
    assert str(error.value).startswith(f"{path}, line {line}: {says}")
    assert "\n" not in str(error.value)


def test_a_table_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "forms.txt"
    path.write_text("# a comment\n口日:left,top/3 .1-.5 [boxes] so # and so\n  move 0-1 10 -20\nり/2 .2\n  join 0\n")
    first, second = read_forms(path)
    assert (first.chars, first.positions, first.count) == ("口日", ("left", "top"), 3)
    assert (first.habit, first.note, first.line) == ("boxes", "so", 2)
    assert [first.share(speed) for speed in (0, 0.5, 1)] == pytest.approx([0.1, 0.3, 0.5])
    assert [(c.verb, c.strokes, c.numbers.tolist()) for c in first.changes] == [("move", (0, 1), [10, -20])]
    assert (second.habit, second.share(1), second.fits("left"), first.fits("left")) == ("り", 0.2, True, True)
    assert not first.fits("right")


def test_all_hiragana_and_the_commonest_components_have_forms():
    with_forms = {char for form in FORMS for char in form.chars}
    assert set(HIRAGANA) <= with_forms
    components = COMMONEST.replace("\n", "")
    assert len(components) >= 60
    assert set(components) <= with_forms
    assert all(form.changes for form in FORMS)


def test_each_form_is_of_some_character_and_changes_it(shown):
    """What it changes is all in the frame, and drawn with as many points as before."""
    assert [f"line {form.line}" for form, found in shown if not found] == []
    for form, found in shown:
        for char, strokes in found[:1]:
            model = stroke_models(char)[0]
            for degree in (reshaping.DEGREE[0], sum(reshaping.DEGREE)):
                changed = reshaped(model, [(form, strokes)], degree)
                count = len(changed.strokes)
                assert changed.strokes.shape[1:] == model.strokes.shape[1:]
                assert np.isfinite(changed.strokes).all()
                assert np.abs(changed.strokes).max() < 0.62, form.line
                assert changed.plain.shape == changed.strokes.shape
                assert (len(changed.hooks), changed.groups.shape[1], len(changed.joined)) == (count,) * 3
                same = count == len(model.strokes) and np.allclose(changed.strokes, model.strokes, atol=1e-3)
                assert not same or changed.joined.any() or "unhook" in {c.verb for c in form.changes}, form.line


def test_a_writer_has_one_habit_everywhere():
    """Whoever writes 口 in two strokes does so in each kanji that has one; and each kana always in the same way."""

    def in_two(char: str, person, seed: int) -> bool:
        model = stroke_models(char)[0]
        made = reshaping.in_forms_of(person, model, np.random.default_rng(seed))
        return len(made.strokes) < len(model.strokes)

    (form,) = (form for form in FORMS if form.chars == "口" and form.note == "in two strokes")
    only = ((form.habit, (form,)),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "habits_of", lambda char, count: only if (char, count) == ("口", 3) else ())
        two = np.array([[in_two(char, person, seed) for seed, char in enumerate("吉味吾")] for person in WRITERS[:150]])
    assert (two == two[:, :1]).all()
    assert 0 < two[:, 0].mean() < 0.5
    for person in WRITERS[:5]:
        made = [reshaping.in_forms_of(person, stroke_models("り")[0], np.random.default_rng(i)) for i in range(3)]
        assert len({(len(model.strokes), bool(model.joined[0])) for model in made}) == 1


def test_a_drawn_character_has_its_writers_forms(monkeypatch):
    """Without a table, those who have a form for it draw 口 otherwise."""
    models, habit = stroke_models("口"), [chosen_forms("口", "whole", 3, person) != [] for person in WRITERS[:20]]

    def drawn() -> list[bytes]:
        return [draw_character("口", models, p, np.random.default_rng(1)).tobytes() for p in WRITERS[:20]]

    with_table = drawn()
    monkeypatch.setattr(forms, "habits_of", lambda char, count: ())
    differing = [one != other for one, other in zip(with_table, drawn(), strict=True)]
    assert 2 < sum(differing) < 18
    assert differing == habit


def test_as_many_writers_have_a_form_as_the_table_says():
    for char, count, position in (("り", 2, "whole"), ("木", 4, "left"), ("口", 3, None), ("人", 2, "top")):
        chosen = [chosen_forms(char, position, count, person) for person in WRITERS]
        for form in FORMS:
            if char in form.chars and form.count == count and form.fits(position):
                share = np.mean([form.share(person.speed) for person in WRITERS])
                assert np.mean([form in own for own in chosen]) == pytest.approx(share, abs=0.06), form.line
        assert all(form.fits(position) for own in chosen for form in own)
        assert all(len({form.habit for form in own}) == len(own) for own in chosen)


def test_what_an_outer_component_draws_anew_stays_so():
    """門 as it is written quickly, and the inner lines of 日, which is inside of it."""
    model = stroke_models("間")[0]
    strokes = {name: numbers for name, _, numbers in model.components}
    gate = next(form for form in FORMS if form.chars == "門" and form.note == "as written quickly")
    dots = next(form for form in FORMS if form.chars == "門" and form.note == "the lines as dots")
    sun = next(form for form in FORMS if form.chars == "日" and form.note == "the inner lines in one")
    changed = reshaped(model, [(gate, strokes["門"]), (dots, strokes["門"]), (sun, strokes["日"])])
    alone = reshaped(model, [(gate, strokes["門"])])
    assert (len(alone.strokes), len(changed.strokes)) == (3 + 4, 3 + 3)
    assert np.array_equal(changed.strokes[:3], alone.strokes[:3])


VERBS = """十/2 1
    {}
"""


@pytest.mark.parametrize(
    ("change", "stroke", "start", "end"),
    [
        ("move 1 10 -20", 1, (10, -20), (10, -20)),
        ("start 0 0 20", 0, (0, 20), (0, 0)),
        ("end 0 -10 0", 0, (0, 0), (-10, 0)),
        ("scale 0 .5 1", 0, (25, 0), (-25, 0)),
        ("trim 0 .1 .7", 0, (10, None), (-30, None)),
        ("draw 0 10,60 80,60", 0, (10, None), (-20, None)),
    ],
)
def test_a_verb_does_what_it_says(change, stroke, start, end, tmp_path):
    """Of 十, whose bar is as long as its box is wide; ends compared in hundredths of the box."""
    (tmp_path / "forms.txt").write_text(VERBS.format(change), encoding="utf-8")
    model = stroke_models("十")[0]
    own = model.strokes.reshape(-1, 2)
    changed = reshaped(model, [(read_forms(tmp_path / "forms.txt")[0], (0, 1))])
    moved = (changed.strokes - model.strokes)[stroke][[0, -1]] / np.ptp(own, axis=0) * 100
    for way, wanted in zip(moved.ravel(), (*start, *end), strict=True):
        assert wanted is None or way == pytest.approx(wanted, abs=1.5)
    assert np.array_equal(changed.strokes[1 - stroke], model.strokes[1 - stroke])


def test_verbs_of_direction_and_curve(tmp_path):
    def lines(change: str) -> np.ndarray:
        (tmp_path / "forms.txt").write_text(VERBS.format(change), encoding="utf-8")
        return reshaped(stroke_models("十")[0], [(read_forms(tmp_path / "forms.txt")[0], (0, 1))]).strokes

    plain = stroke_models("十")[0].strokes
    assert abs(lines("level 0 1")[0, -1, 1] - lines("level 0 1")[0, 0, 1]) < 1e-3 < plain[0, 0, 1] - plain[0, -1, 1]
    middle = (plain[0, 0] + plain[0, -1]) / 2
    assert lines("bend 0 .1")[0, 16, 1] > plain[0, 16, 1] + 0.05  # a bar from left to right sags
    assert np.hypot(*(lines("straighten 0 1")[0, 16] - middle)) < 1e-3
    turned = lines("turn 0 90")[0]
    assert abs(turned[-1, 0] - turned[0, 0]) < 0.1 < turned[-1, 1] - turned[0, 1]  # clockwise: downwards
    assert len(lines("drop 1")) == 1
    (tmp_path / "forms.txt").write_text("小/3 1\n  unhook 0\n", encoding="utf-8")
    hooked = stroke_models("小")[0]
    free = reshaped(hooked, [(read_forms(tmp_path / "forms.txt")[0], (0, 1, 2))])
    assert hooked.hooks[0] < 1 == free.hooks[0]
    assert free.strokes[0, -1, 1] > hooked.strokes[0, -1, 1] + 0.02  # it ends at the foot, below the end of the flick


def test_a_stroke_that_became_two_joins_the_next_by_its_end(tmp_path):
    (tmp_path / "forms.txt").write_text("十/2 1\n  draw 0 0,50 40,50 / 60,50 100,50\n  join 0\n", encoding="utf-8")
    changed = reshaped(stroke_models("十")[0], [(read_forms(tmp_path / "forms.txt")[0], (0, 1))])
    assert changed.joined.tolist() == [False, True, False]
    person = dataclasses.replace(WRITERS[0], haste=0.0)
    (trace,) = variation.traces_between(changed, changed.strokes, person, np.random.default_rng(0))
    np.testing.assert_allclose(trace[[0, -1]], [changed.strokes[1, -1], changed.strokes[2, 0]], atol=1e-6)


def test_components_in_an_unusual_order_of_strokes_are_left_alone():
    """才 is 扌 in KanjiVG's tree, and 必 has 心, but not as they are written elsewhere."""
    for char, other, element in (("才", "打", "扌"), ("必", "思", "心"), ("前", "分", "八")):
        assert element not in {name for name, _, _ in stroke_models(char)[0].components}
        assert element in {name for name, _, _ in stroke_models(other)[0].components}
    assert [name for name, _, _ in stroke_models("が")[0].components] == ["が", "゛"]
    assert stroke_models("ぱ")[0].components[1] == ("゜", None, (3,))


def test_half_of_the_writers_print_and_the_others_are_quick():
    speeds = np.array([person.speed for person in WRITERS])
    assert 0.43 < (speeds == 0).mean() < 0.57
    assert 0.7 < np.quantile(speeds, 0.9) < 0.9
    fast, slow = ([p for p in WRITERS if (p.speed > 0.5) == quick] for quick in (True, False))
    assert np.mean([p.haste for p in fast]) > 0.3 > 0.1 > np.mean([p.haste for p in slow])
    assert np.mean([p.hooks for p in fast]) < 0.75 * np.mean([p.hooks for p in slow])


def test_a_quick_hand_cuts_corners_and_keeps_the_ends():
    corner = stroke_models("口")[0].strokes[1]
    smooth = variation._QUICK @ corner
    np.testing.assert_allclose(smooth[[0, -1]], corner[[0, -1]], atol=1e-3)
    assert np.linalg.norm(np.diff(smooth, 3, axis=0)) < 0.5 * np.linalg.norm(np.diff(corner, 3, axis=0))
    assert 0.01 < np.abs(smooth - corner).max() < 0.15
    stiff = dataclasses.replace(WRITERS[0], looseness=0.0, roundness=0.0, speed=0.0, bow=0.0)
    model = stroke_models("口")[0]
    turns = []
    for speed in (0.0, 1.0):
        person = dataclasses.replace(stiff, speed=speed)
        line = variation.vary_strokes("口", model, person, np.random.default_rng(1))[1]
        step = np.diff(line, axis=0) @ [1, 1j]
        turns.append(np.abs(np.angle(step[1:] / step[:-1]))[2:-2].max())
    assert turns[1] < 0.7 * turns[0]


def test_the_old_constants_are_gone():
    old = ["JOINED_FORMS", "COMMON_JOINS", "SHORT_TAILS", "LOW_HUMPS", "WIDE_BOWS", "SEPARATE_FORMS"]
    assert not [name for name in old for module in (forms, variation) if hasattr(module, name)]
    assert "joined_forms" not in writer.Writer.__dataclass_fields__


def test_the_table_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sheets, "class_list", lambda name: "りぱ")
    sheet = sheets.forms_sheet([form for form in FORMS if form.chars in ("り", "゜")])
    assert np.asarray(sheet).min() < 50
    assert np.median(np.asarray(sheet)) == 255
    monkeypatch.setattr(synthesize_etl9g, "forms_sheet", lambda: sheet)
    monkeypatch.setattr("sys.argv", ["synthesize_etl9g.py", "--forms", str(tmp_path / "forms.png")])
    synthesize_etl9g.main()
    assert "forms.png" in capsys.readouterr().out
    assert (tmp_path / "forms.png").stat().st_size > 1000
