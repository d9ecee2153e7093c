"""The HTML page in a real browser: with and without scripts, with names that try everything, and with 100,000 tensors."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import time
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from ckptaudit.align import Pair
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.report import Entry, render_audit, render_audits

from .hostile import FRAGMENTS, audit_of, names

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        missing = "Chromium is not installed: apt-get install chromium chromium-driver"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, tmp_path):
    """Open a page, and make sure that it fetched nothing and that nothing went wrong, at first and after the test."""

    def opened(text: str, *, scripts: bool = True):
        (tmp_path / "page.html").write_text(text)
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        browser.get((tmp_path / "page.html").as_uri())
        if scripts:
            assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        return browser

    browser.get_log("browser")
    yield opened
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """The page of the real command."""
    file = tmp_path_factory.mktemp("html") / "report.html"
    result = run(
        "diff", "sample_ckpts/dataparallel_10classes.pth", "--against", "sample_ckpts/deeplabv3_voc.pth", "--format", f"html={file}"
    )
    assert (result.returncode, result.stdout) == (1, "")
    return file.read_text()


def _rows(browser, side):
    """The rows in view by the full names of their nodes: what they say, and their classes. One look, as they are made anew all the time."""
    script = """return [...document.querySelectorAll(`[data-side=${arguments[0]}] .row`)].map(
        (row) => [row.title, [...row.children].map((part) => part.textContent).join(" ").trim(), row.className]);"""
    return {title: (text, classes.split()) for title, text, classes in browser.execute_script(script, side)}


def _until(browser, condition):
    return WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: condition())


def _click(browser, side, name):
    script = """const rows = [...document.querySelectorAll(`[data-side=${arguments[0]}] .row`)];
        const row = rows.find((candidate) => candidate.title === arguments[1]);
        if (row) row.click();
        return Boolean(row);"""
    _until(browser, lambda: browser.execute_script(script, side, name))


def _text(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def _lines(browser, classes=""):
    return len(browser.find_elements(By.CSS_SELECTOR, f".links path{classes}"))


def test_page_needs_nothing_but_itself(page):
    document = lxml_html.document_fromstring(page)
    assert not document.xpath("//@src | //link | //iframe | //object | //@style | //@onclick | //*[@href and not(starts-with(@href, '#'))]")
    (policy,) = document.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    (style,), script = document.xpath("//style/text()"), document.xpath("//script[not(@type)]/text()")[0]
    for element, text in (("style", style), ("script", script)):
        assert f"{element}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';")


def test_verdict_comes_first(page):
    document = lxml_html.document_fromstring(page)
    said = " ".join(document.body.text_content().split())
    assert said.startswith("✗ partial to evaluate The same backbone (resnet50); head 10 → 21 classes; names wrapped in module.: fit to")
    assert document.xpath("//details[contains(@class, 'error')]/@open")


def test_readable_without_scripts(show, page):
    browser = show(page, scripts=False)
    said = browser.find_element(By.TAG_NAME, "body").text
    assert "The file has 10 classes and the model 21" in said
    assert r"re.sub(r'^module\.(?!classifier\.4\.)', r'', name)" in said
    assert not browser.find_element(By.CSS_SELECTOR, "section.graph").is_displayed()
    summary = browser.find_element(By.CSS_SELECTOR, "noscript details summary")
    assert summary.text == "Layers of the file"
    summary.click()
    assert "backbone" in browser.find_element(By.CSS_SELECTOR, "noscript .tree").text


def test_both_graphs_stand_side_by_side(show, page):
    browser = show(page)
    assert not browser.find_elements(By.CSS_SELECTOR, "noscript details")
    # What does not fit is open from the start, in its colour, with a line to its counterpart.
    _until(browser, lambda: _lines(browser, ".s7") == 2)
    assert _rows(browser, "file")["module.classifier.4.weight"][0].endswith("weight 10×256×1×1 float32")
    assert "s7" in _rows(browser, "model")["classifier.4.weight"][1]
    assert _lines(browser, ".s3.many") >= 3


def test_repeats_are_folded_and_open(show, page):
    browser = show(page)
    for name in ("backbone", "backbone.layer1"):
        _click(browser, "model", name)
    folded = "backbone.layer1.1 to backbone.layer1.2"
    _until(browser, lambda: folded in _rows(browser, "model"))
    assert _rows(browser, "model")[folded][0].split(maxsplit=1)[1].split() == ["{1..2}", "18", "tensors", "·", "×2"]
    _click(browser, "model", folded)
    _until(browser, lambda: {"backbone.layer1.1", "backbone.layer1.2"} <= set(_rows(browser, "model")))


def test_search_finds_tensors_on_both_sides(show, page):
    browser = show(page)
    browser.find_element(By.CSS_SELECTOR, ".graph input").send_keys("LAYER3.2.BN1.W")
    _until(browser, lambda: _text(browser, ".found") == "1 of the file, 1 of the model")
    _until(browser, lambda: list(_rows(browser, "file"))[-1] == "module.backbone.layer3.2.bn1.weight")
    _until(browser, lambda: _lines(browser) == 1)


def test_only_what_is_wrong(show, page):
    browser = show(page)
    browser.find_element(By.CSS_SELECTOR, ".graph select option[value='5']").click()
    _until(browser, lambda: _text(browser, ".found") == "2 of the file, 2 of the model")


def test_choosing_a_tensor_tells_what_becomes_of_it(show, page):
    browser = show(page)
    _click(browser, "file", "module.classifier.4.weight")
    _until(browser, lambda: "other shape" in _text(browser, ".detail"))
    told = "module.classifier.4.weight 10×256×1×1 float32 → classifier.4.weight 21×256×1×1 float32"
    assert told in _text(browser, ".detail")
    _until(browser, lambda: "partner" in _rows(browser, "model")["classifier.4.weight"][1])
    pane = browser.find_element(By.CSS_SELECTOR, "[data-side=file]")
    pane.send_keys(Keys.ARROW_DOWN)
    _until(browser, lambda: "module.classifier.4.bias" in _text(browser, ".detail"))
    pane.send_keys(Keys.ARROW_LEFT)
    _until(browser, lambda: _text(browser, ".detail").startswith("file: module.classifier.4 · 2 tensors"))


def test_hostile_names_stay_text(show):
    audit = audit_of([*FRAGMENTS, "shared.weight"], ["shared.weight", *FRAGMENTS[:20], "</script><script>window.stolen = 1</script>"])
    entries = [Entry(fragment, audit, remark=fragment) for fragment in ("<script>window.stolen = 2</script>", "\u2028]]>")]
    browser = show(render_audits([*entries, Entry("lost", error="<img src=x onerror='window.stolen = 3'>")], "html"))
    assert browser.execute_script("return [window.stolen, document.scripts.length, document.images.length]") == [None, 3, 0]
    assert browser.execute_script("return document.querySelectorAll('article').length") == 3
    # Even markup that got in would not run.
    browser.execute_script("const s = document.createElement('script'); s.textContent = 'window.stolen = 4'; document.body.append(s)")
    assert browser.execute_script("return window.stolen") is None
    refused = browser.get_log("browser")
    assert len(refused) == 1
    assert "Content Security Policy" in refused[0]["message"]


@given(st.lists(names, min_size=1, max_size=6), st.lists(names, min_size=1, max_size=6), names)
@example([".`"], ["`", "``"], "`")
@settings(max_examples=15, deadline=None)
def test_no_name_makes_an_element(file, model, words):
    audit = audit_of([*file, "shared.weight"], ["shared.weight", *file[:2], *model])
    page = render_audits([Entry(words, audit, remark=words), Entry("b", error=words)], "html")
    document = lxml_html.document_fromstring(page)
    assert len(document.xpath("//script")) == 2
    assert not document.xpath("//img | //b | //a[not(starts-with(@href, '#audit-'))] | //@*[starts-with(name(), 'on')]")
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202e\u2028]", page)


def _large(tensors: int):
    """An audit of two networks of this many tensors, wrapped in ``module.``, one of which is unset."""
    parts = ("attn.weight", "attn.bias", "norm.weight", "norm.bias", "fc.weight")
    wanted = [f"stage{i % 4}.blocks.{i // 4}.{part}" for i in range(tensors // 5) for part in parts]
    file, model = ([TensorSpec(f"{prefix}{name}", (8, 8), "float32") for name in wanted] for prefix in ("module.", ""))
    small = audit_of(["module.a.weight"], ["a.weight"])
    checkpoint = replace(small.checkpoint)
    checkpoint.__dict__["graph"] = LayerGraph.from_tensors(file)
    steps = tuple(
        Pair(name, (f"module.{name}",), (), "decided", 1.0, ("same name",)) for name in wanted if name != "stage2.blocks.7.fc.weight"
    )
    plan = replace(small.plan, steps=steps, rules=())
    return replace(
        small,
        checkpoint=checkpoint,
        model=replace(small.model, graph=LayerGraph.from_tensors(model)),
        plan=plan,
        findings=(),
        mismatched=MappingProxyType({}),
    )


def test_100_000_tensors_stay_usable(show):
    started = time.perf_counter()
    page = render_audit(_large(100_000), "html")
    assert time.perf_counter() - started < 60
    assert len(page) < 12_000_000
    browser = show(page)
    ready = browser.execute_script("return performance.getEntriesByType('navigation')[0].domInteractive")
    _until(browser, lambda: "s6" in _rows(browser, "model").get("stage2.blocks.7.fc.weight", ("", []))[1])
    frame = """const done = arguments[arguments.length - 1], start = performance.now();
        document.querySelector("[data-side=model]").scrollTop = arguments[0];
        requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));"""
    browser.find_element(By.CSS_SELECTOR, ".graph input").send_keys("weight")
    _until(browser, lambda: _text(browser, ".found") == "60,000 of the file, 60,000 of the model")
    scrolled = [browser.execute_async_script(frame, position) for position in (1000, 500_000, 1_500_000)]
    assert len(browser.find_elements(By.CSS_SELECTOR, ".row")) < 120  # only what is in view exists
    # Generous bounds, for busy machines: it is a matter of half a second and of single frames.
    assert ready < 15_000
    assert max(scrolled) < 1500
