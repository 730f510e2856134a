"""Small widgets: what they say is text, never a tag."""

from occlab.workbench import ui

HOSTILE = "<img src=x onerror=alert(1)> & 'quoted'"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt; &amp; &#x27;quoted&#x27;"


def test_nothing_said_is_a_tag():
    note = ui.note()
    ui.say(note, HOSTILE)
    shown = [note.value, ui.note(HOSTILE).value, ui.heading(HOSTILE).value, ui.card(HOSTILE, HOSTILE)]
    shown += [ui.error_card(HOSTILE, HOSTILE), ui.table([HOSTILE], [[HOSTILE]], caption=HOSTILE)]
    for text in shown:
        assert ESCAPED in text
        assert "<img" not in text


def test_a_traceback_is_folded_away_and_left_out_where_there_is_none():
    assert "<details><summary>" in ui.error_card("it failed", "Traceback ...")
    assert "<details>" not in ui.error_card("it failed")
    assert 'role="alert"' in ui.error_card("it failed")


def test_numbers_of_a_table_stand_at_the_right_and_none_is_empty():
    shown = ui.table(["name", "IoU"], [["logits", 0.123456], ["as it stood", None], ["many", 12]])
    assert "<td class=number>0.1235</td>" in shown
    assert "<td></td>" in shown
    assert "<td class=number>12</td>" in shown
    assert shown.count('<th scope="col">') == 2


def test_a_button_calls_and_says_what_for():
    pressed = []
    button = ui.button("\N{BLACK RIGHT-POINTING TRIANGLE} start", "Begin to train", lambda: pressed.append(1), main=True)
    button.click()
    assert pressed == [1]
    assert (button.tooltip, button.button_style, button.icon) == ("Begin to train", "primary", "")
