"""The curves: the run's history, what comes live, other runs over them."""

from chromium_page import wait_for

LIT = """
    const figure = [...document.querySelectorAll('#charts figure')].find((f) => f.innerText.startsWith('Q'));
    if (!figure) return 0;
    const canvas = figure.querySelector('canvas');
    const colour = getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim();
    const wanted = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4) if (wanted.every((v, k) => Math.abs(data[i + k] - v) < 40)) count += 1;
    return count;
"""


def lit(page, line="--line-1"):
    """How many pixels of a curve's colour the chart of Q has."""
    return page.run(LIT, line)


def records(count):
    return [
        {"kind": "update", "env_steps": 10 * i, "q_mean": 0.01 * i, "critic_loss": 1.0 / (1 + i), "debt": 0}
        for i in range(1, count + 1)
    ]


def test_a_reload_keeps_the_history(page, stub):
    stub.metrics = records(300)
    page.open(stub.link).wait_connected()
    wait_for(lambda: lit(page) > 50, "the curve of Q")
    page.driver.refresh()
    wait_for(lambda: lit(page) > 50, "the curve of Q after a reload")
    assert page.errors() == []


def test_new_records_lengthen_the_curves(page, stub):
    page.open(stub.link).wait_connected()
    page.wait("#charts", "No curves yet")
    stub.tell({"kind": "metrics", "records": records(40)})
    wait_for(lambda: lit(page) > 50, "a curve of what came live")


def test_other_runs_are_laid_over(page, stub):
    stub.metrics = records(50)
    stub.other_runs = {"ram-6": records(200)}
    page.open(stub.link).wait_connected()
    wait_for(lambda: page.has("#runs input"), "the other run")
    assert lit(page, "--line-2") == 0
    page.click("#runs input")
    wait_for(lambda: lit(page, "--line-2") > 50, "the other run's curve")
    assert page.errors() == []


def test_no_record_is_lost_while_the_history_is_on_its_way(page, stub):
    stub.burden_s = 1.0
    page.open(stub.link).wait_connected()
    stub.tell({"kind": "metrics", "records": records(40)})
    wait_for(lambda: lit(page) > 50, "a curve of what came meanwhile")
