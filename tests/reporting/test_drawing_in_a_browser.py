"""The part of the page that draws, in Chromium against Python: the same seeds, codes and pictures; by mouse and keyboard."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.mqvae import MQVAE
from models.sampling import SamplingSettings, Truncation, draw_uniform, sample
from models.sampling.editing import Editor, Staying
from models.stackformer import Stackformer, StackformerConfig
from reporting.carried import packed, read_carried, read_tokenizer, weights_of
from reporting.page import read_report
from reporting.web.rendering import render
from shards.images.pixels import to_uint8
from shards.text import TextTokenizer
from tests.reporting.board import cells_of, drawn, marked_on, picture
from tests.reporting.tiny_models import CODES, DECODER, GRID, KEPT, NETWORK, lively
from tests.waiting import becomes, until
from workspace.exact.manifest import read_json
from workspace.exact.seeds import sample_seed

CELLS = GRID * GRID
SHARP = Truncation(0.9, 0, 0.8)
SETTINGS = SamplingSettings(2.0, SHARP, replace(SHARP, top_k=9))
DRAWN = """async ([text, tensors, config, asked, stays, free]) => {
    const models = await unpackWeights(text, tensors);
    return asked.map((one) => [...choosing(models.stackformer, config, one, new Map(stays), new Set(free))]); }"""
DECODED = """async ([text, tensors, config, codes, positions]) => {
    const models = await unpackWeights(text, tensors);
    return Array.from(decodePicture(models.mqvae, config, codes, positions).data); }"""


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (3, 16), (2**53 - 1, 10**9)])
def test_random_numbers_are_those_of_sample_to_the_bit(tab, seed, index):
    found = tab.evaluate(
        f"[String(sampleSeed({seed}, {index})), Array.from(uniforms(sampleSeed({seed}, {index}), 1400))]"
    )
    expected = sample_seed(seed, 0, index, "sample")
    assert found == [str(expected), draw_uniform([expected], 700).flatten().tolist()]


CAPTIONS = (
    "a red circle",
    "A  RED   circle!!",
    " two stars, they're 12 of 34",
    "",
    "é e\u0301 ß İ ☂ 日本",
    "\ttab\nline  ",
    "<pad> a <pad>b",
)


def test_captions_become_the_same_codes(tab, tmp_path):
    words = ("a red circle", "a blue square, they're two", "two stars on a red ground")
    tokenizer = TextTokenizer.train(words, 290)
    tokenizer.save(tmp_path / "text.json")
    carried = read_tokenizer(tmp_path / "text.json")
    for length in (4, 40):
        found = tab.evaluate(
            "([captions, of, length]) => captions.map((one) => encodeCaption(one, of, length))",
            [list(CAPTIONS), carried, length],
        )
        assert found == tokenizer.encode(CAPTIONS, length).tolist()


def saved(tmp_path, stackformer, mqvae):
    """Both in folders, as published."""
    stackformer.save_pretrained(tmp_path / "stackformer")
    mqvae.save_pretrained(tmp_path / "mqvae")
    return tmp_path / "stackformer", tmp_path / "mqvae"


def as_the_page_has_it(folder, weights, part):
    """A published model with the weights that a page carries, in float64."""
    kind = Stackformer if part == "stackformer" else MQVAE
    model = kind.from_pretrained(folder)
    rounded = {
        name.removeprefix(f"{part}."): torch.from_numpy(weight.astype(np.float32))
        for name, (weight, _) in weights.items()
        if name.startswith(f"{part}.")
    }
    model.load_state_dict(model.state_dict() | rounded)
    return model.double()


def truncation(of):
    """As the page's controls give it."""
    return {"temperature": of.temperature, "top_k": of.top_k, "top_p": of.top_p}


def asked_for(conditions, settings, seed=5):
    """One picture for each condition, as the page asks for it."""
    of = {
        "guidance": settings.guidance_scale,
        "code": truncation(settings.code),
        "position": truncation(settings.position),
        "seed": seed,
    }
    return [{**of, "index": index, "condition": codes} for index, codes in enumerate(conditions)]


def in_the_page(tab, folders, weights, conditions, settings, stays=(), free=range(CELLS)):
    """(code, position) pairs that the page draws."""
    tensors = [[name, list(weight.shape), kind] for name, (weight, kind) in weights.items()]
    config = read_json(folders[0] / "config.json")
    asked = asked_for(conditions, settings)
    told = [packed(weights), tensors, config, asked, [list(pair) for pair in stays], list(free)]
    drawn = tab.evaluate(DRAWN, told)
    return [[(step["code"], step["position"]) for step in one] for one in drawn]


def pairs(tokens):
    """(code, position) pairs of Python's draws."""
    return [
        list(zip(*rows, strict=True))
        for rows in zip(tokens.codes_BN.tolist(), tokens.positions_BN.tolist(), strict=True)
    ]


UNUSED = replace(NETWORK, block="modern", position_layers=2, position_support="unused")
STACKFORMERS = {
    "classes": StackformerConfig(NETWORK, CODES, CELLS, KEPT, "class", 1, 3),
    "captions, modern blocks, unused positions": StackformerConfig(UNUSED, 24, CELLS, 20, "text", 3, 7),
    "modern, ascending": StackformerConfig(replace(NETWORK, block="modern"), 24, CELLS, 20, "none", 1, 1),
    "all cells kept": StackformerConfig(replace(NETWORK, position_layers=0), 24, 16, 16, "class", 1, 3),
}


@pytest.mark.parametrize("name", STACKFORMERS)
def test_the_page_draws_the_codes_of_sample(tab, tmp_path, name):
    config = STACKFORMERS[name]
    torch.manual_seed(2)
    folders = saved(tmp_path, lively(Stackformer(config), 3), lively(MQVAE(DECODER), 4))
    kind = "float32" if name == "classes" else "float16"
    weights = weights_of(*folders, kind)
    model = as_the_page_has_it(folders[0], weights, "stackformer")
    conditions = torch.randint(config.condition_vocab, (3, config.condition_length)).tolist()
    seeds = [sample_seed(5, 0, index, "sample") for index in range(3)]
    expected = pairs(sample(model, torch.tensor(conditions), seeds, SETTINGS))
    assert (
        in_the_page(tab, folders, weights, conditions, SETTINGS, free=range(config.num_positions)) == expected
    )
    stays = [(p, c) for c, p in sorted(expected[0], key=lambda pair: pair[1]) if p % 3]
    kept = {p for p, _ in stays}
    free = [cell for cell in range(config.num_positions) if not cell % 3 and cell not in kept]
    tokens = Staying(
        torch.tensor([c for _, c in stays]),
        torch.tensor([p for p, _ in stays]),
        torch.tensor([cell in free for cell in range(config.num_positions)]),
    )
    edited = pairs(Editor(model, tokens, SETTINGS)(torch.tensor(conditions), [[seed] for seed in seeds]))
    assert in_the_page(tab, folders, weights, conditions, SETTINGS, stays, free) == edited
    assert all({(c, p) for p, c in stays} <= set(one) for one in edited)


DECODERS = {
    "of the demo": {},
    "attention, refined": {"attention": True, "refine": 4, "patch_size": 4, "channel_multipliers": (2,)},
    "renormalised, deep": {"demask": "dcsa_renormalised", "demask_blocks": 2, "channel_multipliers": (1, 2, 2), "patch_size": 1},
    "plain attention": {"demask": "sa"},
    "trust stays": {"demask": "dcsa", "demask_blocks": 2},
    "not de-masked": {"demask": "none"},
}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_the_page_paints_what_the_decoder_paints(tab, tmp_path, name):
    torch.manual_seed(2)
    config = replace(DECODER, **DECODERS[name])
    small = Stackformer(StackformerConfig(NETWORK, 4, CELLS, KEPT, "none", 1, 1))
    folders = saved(tmp_path, small, lively(MQVAE(config), 4))
    weights = weights_of(*folders, "float16")
    model = as_the_page_has_it(folders[1], weights, "mqvae")
    cells = config.num_positions
    codes, positions = torch.randint(CODES, (1, KEPT)), torch.randperm(cells)[None, :KEPT].sort().values
    expected = to_uint8(model.decode_tokens(codes, positions).numpy())[0]
    tensors = [[of, list(weight.shape), kind] for of, (weight, kind) in weights.items()]
    of_mqvae = read_json(folders[1] / "config.json")
    told = [packed(weights), tensors, of_mqvae, codes[0].tolist(), positions[0].tolist()]
    found = np.array(tab.evaluate(DECODED, told)).reshape(32, 32, 4)
    assert np.abs(found[..., :3] - expected.astype(int)).max() <= 1 and expected.std() > 20
    assert (found[..., 3] == 255).all()


def test_a_picture_is_drawn_by_its_controls_and_changed_cell_by_cell(page, made, show):
    tab, complaints, asked = show(page)
    assert cells_of(tab) == {} and tab.locator("#draw-again").is_disabled()
    tab.locator("#draw-class").select_option("square")
    tab.locator("#draw-seed").fill("7")
    tab.locator("#draw-index").fill("4")
    first, shown = drawn(tab), picture(tab)
    model = Stackformer.from_pretrained(made.sources.stackformer).double()
    settings = SamplingSettings(2.0, Truncation(1.0, 0, 0.9), Truncation(1.0, 0, 0.9))
    tokens = sample(model, torch.tensor([[1]]), [sample_seed(7, 0, 4, "sample")], settings)
    assert first == {p: c for c, p in pairs(tokens)[0]}
    command = tab.locator("#draw-command").text_content()
    assert "python -m stages.sample --class square --set sample.seed=7 --out drawn" in command
    assert "drawn/png/00000004.png" in command

    tab.locator("#board button").nth(20).click()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Space")
    assert tab.locator("#board [aria-pressed=true]").count() == 2
    tab.locator("#mark-invert").click()
    assert tab.locator("#board [aria-pressed=true]").count() == CELLS - 2
    tab.locator("#mark-none").click()
    assert tab.locator("#draw-again").is_disabled()
    tab.locator("#mark-lower").click()
    second = drawn(tab, "#draw-again")
    upper = {cell: code for cell, code in first.items() if cell < CELLS // 2}
    assert {cell: code for cell, code in second.items() if cell < CELLS // 2} == upper
    assert second != first and len(second) == KEPT and picture(tab) != shown
    assert "from the exact distribution given the rest" in tab.locator("#draw-status").text_content()
    assert tab.locator("#draw-command").is_hidden()
    assert tab.locator("#which").text_content().startswith("1 / 6")  # the arrows were the board's
    assert (complaints, asked) == ([], [])


def test_a_held_out_image_is_loaded_and_a_box_of_it_drawn_again(page, show):
    tab, complaints, _ = show(page, scheme="dark", width=390)
    tab.locator("#next").click()
    loaded = drawn(tab, "#draw-load")
    example = tab.evaluate("data.examples[1]")
    assert loaded == dict(zip(example["kept"], example["codes"], strict=True))
    assert tab.locator("#draw-class option:checked").text_content() == example["label"]
    cells = tab.locator("#board button")
    tab.locator("#board").scroll_into_view_if_needed()
    boxes = [cells.nth(cell).bounding_box() for cell in (27, 29)]
    tab.mouse.move(boxes[0]["x"] + 5, boxes[0]["y"] + 5)
    tab.mouse.down()
    tab.mouse.move(boxes[1]["x"] + 5, boxes[1]["y"] + 5, steps=6)
    tab.mouse.up()
    marked = marked_on(tab)
    assert marked == {27, 28, 29}
    tab.mouse.move(0, 0)
    if marked & loaded.keys():
        again = drawn(tab, "#draw-again")
        outside = {cell: code for cell, code in loaded.items() if cell not in marked}
        assert {cell: code for cell, code in again.items() if cell not in marked} == outside
        assert len(again) == len(loaded)
    assert tab.locator("nav a[href='#draw']").is_visible()  # also on a phone
    tab.locator("nav a[href='#draw']").click()
    title, summary = tab.locator("#draw-title"), tab.locator(".summary")
    until(lambda: summary.bounding_box()["height"] < title.bounding_box()["y"] < 800, 30)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert complaints == []


def test_a_control_out_of_range_draws_nothing(page, show):
    tab, complaints, _ = show(page)
    tab.locator("#draw-code-top_p").fill("1.5")
    for button in ("#draw-go", "#draw-next"):
        tab.locator("#draw-seed").focus()
        tab.locator(button).click()
        becomes("draw-code-top_p", tab.evaluate, "document.activeElement.id")
        assert cells_of(tab) == {} and tab.locator("#draw-status").text_content() == "Choose draw."
        assert tab.locator("#draw-index").input_value() == "0"
    tab.locator("#draw-code-top_p").fill("0.5")
    assert len(drawn(tab)) == KEPT
    assert complaints == []


def test_a_page_without_weights_says_why(made, show):
    for megabytes, why in ((0, "report.draw_megabytes is 0"), (0.01, "The models are too large")):
        text = render(read_report(made.sources, "Shapes", samples=6, examples=1, draw_megabytes=megabytes))
        assert 'id="weights"' not in text
        tab, complaints, _ = show(text)
        assert why in tab.locator("#draw .empty").text_content()
        assert complaints == []


def test_weights_are_whole_while_they_fit_then_rounded_then_left_out(made):
    folders = made.sources.stackformer, made.sources.mqvae
    whole = read_carried(*folders, {}, (), 6)
    rounded = read_carried(*folders, {}, (), whole.megabytes * 0.9)
    none = read_carried(*folders, {}, (), rounded.megabytes * 0.9)
    assert whole.exact and not rounded.exact and whole.megabytes > rounded.megabytes > 0
    assert none.text == "" and "would take" in none.why
    assert whole.text == read_carried(*folders, {}, (), 6).text


def test_a_model_of_any_number_of_codes_stays_out(made, tmp_path):
    config = StackformerConfig(NETWORK, CODES, CELLS, KEPT, "none", 1, 1, fewest_kept=8)
    Stackformer(config).save_pretrained(tmp_path)
    found = read_carried(tmp_path, made.sources.mqvae, {}, (), 6)
    assert found.text == "" and "different numbers of codes" in found.why
