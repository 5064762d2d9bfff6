"""Taking over: what the page says while a person steers, and that it says nothing once nobody can be believed to."""

import time

import pytest
from chromium_page import wait_for


def commands(stub, since=0):
    return stub.said("teleop")[since:]


def engaged(stub, since=0):
    return [command for command in commands(stub, since) if command["engaged"]]


@pytest.fixture
def at_the_controls(page, stub):
    """The page, ready to steer with full speed."""
    page.open(stub.link).wait_connected()
    set_field(page, "speed", 100)
    return page


def hold(page, stub, count, code, key, **more):
    """Hold a key until so many commands have come; return after how many others that began.

    On a machine that is busy the page may stand still for so long that it lets go: then begin anew.
    """
    lost = "return document.getElementById('notices').innerText.split('You no longer steer').length"
    for _ in range(5):
        before, since = page.run(lost), len(commands(stub))
        page.key_down(code, key, **more)
        wait_for(lambda s=since, b=before: len(engaged(stub, s)) > count or page.run(lost) > b, "commands")
        if page.run(lost) == before:
            return since
        page.key_up(code, key, **more)
        time.sleep(0.6)  # the next time begins from nothing
    raise AssertionError("the machine was too busy five times")


def set_field(page, name, value):
    page.run(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def test_a_held_key_moves_the_tool_until_it_is_let_go(at_the_controls, stub):
    hold(at_the_controls, stub, 10, "KeyW", "w")
    at_the_controls.key_up("KeyW", "w")
    wait_for(lambda: not commands(stub)[-1]["engaged"], "the end")
    full = engaged(stub)[-1]
    assert full["twist"] == [1, 0, 0, 0, 0, 0]
    assert full["frame"] == "tool"
    assert commands(stub)[-1]["twist"] == [0] * 6
    sequences = [command["sequence"] for command in commands(stub)]
    assert sequences == sorted(set(sequences))


def test_a_takeover_grows_from_nothing_and_a_short_release_begins_no_new_ramp(at_the_controls, stub):
    since = hold(at_the_controls, stub, 8, "KeyR", "r")
    ramp = [-command["twist"][2] for command in engaged(stub, since)]
    assert ramp[0] < 0.5
    assert ramp == sorted(ramp)
    assert ramp[-1] == 1
    seen = len(commands(stub))
    at_the_controls.press("KeyR", "r")  # down again without a release: nothing; then up
    at_the_controls.key_down("KeyF", "f")
    wait_for(lambda: engaged(stub, seen) and engaged(stub, seen)[-1]["twist"][2] > 0, "the other way")
    at_the_controls.key_up("KeyF", "f")
    assert all(abs(command["twist"][2]) in (0, 1) for command in engaged(stub, seen))


def test_each_frame_has_its_own_forward_left_and_up(page, stub):
    page.open(stub.link)
    axes = page.call(
        """const { toTwist } = await import('/page/intent.js');
        const along = (frame, axis) => toTwist([0, 1, 2, 3, 4, 5].map((i) => (i === axis ? 1 : 0)), frame);
        const all = (frame) => [frame, [0, 1, 2].map((axis) => along(frame, axis))];
        return Object.fromEntries(['tool', 'base', 'camera'].map(all));"""
    )
    assert {frame: [twist[:3] for twist in twists] for frame, twists in axes.items()} == {
        "tool": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],  # it points down
        "base": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "camera": [[0, -1, 0], [-1, 0, 0], [0, 0, -1]],  # forward is up in the picture
    }


def test_somebody_who_faces_the_arm_steers_as_they_see_it(page, stub):
    page.open(stub.link)
    twist = page.call(
        """const { toTwist } = await import('/page/intent.js');
        return toTwist([1, 0.5, 0, 0, 0, 0], 'base', 'front');"""
    )
    assert twist == pytest.approx([-1, -0.5, 0, 0, 0, 0], abs=1e-12)


def test_shift_is_fine_and_the_slider_is_the_speed(at_the_controls, stub):
    set_field(at_the_controls, "speed", 40)
    at_the_controls.key_down("ShiftLeft", "Shift", modifiers=8)
    hold(at_the_controls, stub, 10, "KeyA", "A", modifiers=8)
    assert engaged(stub)[-1]["twist"][1] == pytest.approx(-0.1)
    at_the_controls.key_up("ShiftLeft", "Shift")
    wait_for(lambda: engaged(stub)[-1]["twist"][1] == pytest.approx(-0.4), "the slider's speed")
    at_the_controls.key_up("KeyA", "a")


def test_the_gripper_toggles_from_what_the_arm_says(at_the_controls, stub):
    at_the_controls.press("KeyG", "g")
    wait_for(lambda: engaged(stub), "a command")
    assert engaged(stub)[0]["gripper"] == -1  # it was open
    at_the_controls.press("KeyG", "g")
    wait_for(lambda: engaged(stub)[-1]["gripper"] == 1, "open again")


def test_control_can_be_kept_without_moving_and_handed_back_at_once(at_the_controls, stub):
    hold(at_the_controls, stub, 20, "KeyT", "t")
    at_the_controls.key_up("KeyT", "t")
    assert all(command["twist"] == [0] * 6 for command in commands(stub))
    at_the_controls.press("KeyH", "h")
    wait_for(lambda: any(command["hands_back"] for command in commands(stub)), "the hand-back")
    assert not commands(stub)[-1]["engaged"]


def test_commands_come_20_to_50_times_a_second(at_the_controls, stub):
    at_the_controls.key_down("KeyW", "w")
    wait_for(lambda: engaged(stub), "commands")
    time.sleep(2.0)
    at_the_controls.key_up("KeyW", "w")
    times = [at_s for at_s, message in stub.heard if message["kind"] == "teleop" and message["engaged"]]
    assert 20 <= (len(times) - 1) / (times[-1] - times[0]) <= 50


def test_typing_text_steers_nothing(at_the_controls, stub):
    at_the_controls.run(
        "const field = document.createElement('input'); field.type = 'text'; document.body.append(field); field.focus()"
    )
    at_the_controls.press("KeyW", "w")
    at_the_controls.press("Space", " ")
    at_the_controls.run("document.activeElement.blur()")
    at_the_controls.press("KeyS", "s")
    wait_for(lambda: engaged(stub), "a command")
    assert engaged(stub)[0]["twist"][0] < 0  # the s, not the w
    assert stub.stops == []


def silent_after(stub, what):
    """How many commands come in a while after `what` was done."""
    what()
    time.sleep(0.3)  # what was on its way
    seen = len(commands(stub))
    time.sleep(0.7)
    return len(commands(stub)) - seen


def test_a_frozen_page_says_nothing_and_asks_for_a_new_beginning(at_the_controls, stub):
    hold(at_the_controls, stub, 5, "KeyW", "w")
    at_the_controls.run("const end = performance.now() + 700; while (performance.now() < end) {}")
    assert silent_after(stub, lambda: None) == 0  # the key is still down
    at_the_controls.wait("#notices", "You no longer steer")
    at_the_controls.key_up("KeyW", "w")
    seen = len(commands(stub))
    at_the_controls.key_down("KeyW", "w")
    wait_for(lambda: engaged(stub, seen), "commands after a new beginning")
    at_the_controls.key_up("KeyW", "w")


def test_a_hidden_tab_says_nothing(at_the_controls, stub):
    hold(at_the_controls, stub, 5, "KeyW", "w")
    assert silent_after(stub, lambda: at_the_controls.driver.switch_to.new_window("tab")) == 0


def test_a_window_without_the_keyboard_says_nothing(at_the_controls, stub):
    hold(at_the_controls, stub, 5, "KeyW", "w")
    assert silent_after(stub, lambda: at_the_controls.run("window.dispatchEvent(new Event('blur'))")) == 0


def test_after_a_cut_connection_nobody_steers_until_they_begin_anew(at_the_controls, stub):
    hold(at_the_controls, stub, 5, "KeyW", "w")
    stub.cut()
    wait_for(lambda: len(stub.said("hello")) == 2, "a second hello")
    assert silent_after(stub, lambda: None) == 0
    at_the_controls.wait("#notices", "the connection was cut")


def test_the_touch_stick_steers_while_a_finger_is_on_it(at_the_controls, stub):
    at_the_controls.click("#touch-toggle")
    point = at_the_controls.run(
        """const box = document.getElementById('stick-move').getBoundingClientRect();
        return [box.left + box.width / 2, box.top + 14];"""
    )
    touch = {"x": point[0], "y": point[1]}
    cdp = at_the_controls.driver.execute_cdp_cmd
    cdp("Emulation.setTouchEmulationEnabled", {"enabled": True})
    cdp("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [touch]})
    wait_for(lambda: engaged(stub) and engaged(stub)[-1]["twist"][0] > 0.6, "forward")
    cdp("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_for(lambda: not commands(stub)[-1]["engaged"], "the end")


def test_a_gamepad_counts_once_it_was_seen_at_rest(page, stub):
    page.open(stub.link)
    seen = page.call(
        """const { Gamepad } = await import('/page/controls_gamepad.js');
        const buttons = Array.from({ length: 17 }, () => ({ value: 0 }));
        const pad = { index: 0, connected: true, mapping: 'standard', axes: [0, -1, 0, 0], buttons };
        const pressed = [];
        const gamepad = new Gamepad({ pressed: (name) => pressed.push(name), deadZone: 0.1 }, () => [pad]);
        const early = gamepad.read().isEngaged;
        pad.axes = [0, 0.05, 0, 0];
        const rest = gamepad.read().isEngaged;
        pad.axes = [-1, -0.55, 0, 0];
        pad.buttons[0] = { value: 1 };
        const { intent, isEngaged } = gamepad.read();
        gamepad.read();
        return { early, rest, intent, isEngaged, pressed };"""
    )
    assert (seen["early"], seen["rest"], seen["isEngaged"]) == (False, False, True)
    assert seen["intent"] == pytest.approx([0.5, 1, 0, 0, 0, 0])
    assert seen["pressed"] == ["gripper"]
