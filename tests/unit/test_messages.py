"""Every message that says what to do is provoked by a test that then does it: see `advises`."""

import ast
import re
from pathlib import Path

import demur

TESTS = Path(__file__).parents[1]
VERBS = (
    "add|ask|begin|calibrate|call|choose|convert|cut|drop|export|fit|give|impute|infer|keep|leave|load|make|name|pass|put|"
    "remove|rename|rescale|run|save|say|set|sort|start|take|train|try|use|write"
)
ADVICE = re.compile(rf"(?:^|[:;.,] (?:or |and |then )?|\bor )(?:{VERBS}) |\b\w+\(\.\.\.\)", re.IGNORECASE)
HOLE = "\0"
"""Stands for what a message fills in."""

ELSEWHERE = {
    "leave it out on PyTorch": "contract/test_steps.py::test_steps_in_one_call_train_as_steps_one_by_one_do",
    **dict.fromkeys(
        (
            "pass X as an array; np.memmap",
            "inside of `with strategy.scope():`",
            "leave out either of the two",
            "call torch.distributed.init_process_group() first",
            "under a MirroredStrategy; got a",
        ),
        "contract/test_several_devices.py::test_two_devices_train_as_one",
    ),
    "leave out --detector and the options of": "e2e/test_cli_classifiers.py::"
    "test_what_gives_no_gradients_gets_no_autoencoder",
    "leave one of allow_threshold and max_batch_time out": "e2e/test_mlserver.py::"
    "test_models_that_cannot_be_loaded_are_told_at_the_start",
    "leave the parameter out": "e2e/test_mlserver.py::test_over_http_errors_say_what_is_wrong",
    "rename one of them, or uninstall the package": "e2e/test_packages.py::"
    "test_two_packages_with_one_name_are_an_error_that_names_both",
    "queue is full": "serve/test_http.py::test_a_full_queue_is_a_503_that_says_when_to_come_again",
    "with --allow-host NAME": "serve/test_hosts.py::test_a_server_of_one_machine_answers_to_its_own_names_alone",
}
"""Advice that a test follows without `advises`, in another process or over a network: which test."""
UNTRIED = {
    "pass a smaller batch_size, or more memory a worker": "no test starves a worker of memory",
    "for several hosts use PyTorch, with torchrun": "tests have one host",
}
"""Advice that no test follows, and why."""


def text_of(node):
    """The words of a message, with holes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.IfExp):
        return text_of(node.body) + HOLE + text_of(node.orelse)
    return HOLE


def messages():
    """Each message that is raised or warned of, by where it stands."""
    for file in sorted(Path(demur.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            raised = node.exc if isinstance(node, ast.Raise) else None
            warned = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "warn"
            call = raised if isinstance(raised, ast.Call) else node if warned else None
            if call is not None and (text := " ".join(text_of(argument) for argument in call.args)).strip(HOLE + " "):
                yield f"{file.name}:{node.lineno}", text


def followed():
    """What the tests say that messages advise; where it is a parameter, all texts that are parametrized."""
    for file in TESTS.rglob("*.py"):
        source = file.read_text()
        for function in ast.walk(ast.parse(source)) if "advises(" in source else []:
            if isinstance(function, ast.FunctionDef):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                words = [call.args[1] for call in calls if getattr(call.func, "id", "") == "advises"]
                given = [node for part in function.decorator_list for node in ast.walk(part)]
                yield from (text_of(node) for node in words if not isinstance(node, ast.Name))
                yield from (text_of(node) for node in given if any(isinstance(word, ast.Name) for word in words))


def advice_of(message):
    """The beginnings of what a message says to do, as far as it fills nothing in."""
    for piece in message.split(HOLE):
        for found in ADVICE.finditer(piece):
            yield piece[found.start() :].lstrip(":;., ")[:30].strip()


def fits(words, message):
    """Whether the words of a test are those of a message, whatever fills its holes."""
    return len(words) > 8 and (words in message or any(advice in words for advice in advice_of(message)))


def test_every_advice_is_followed_by_a_test():
    tried = [*followed(), *ELSEWHERE, *UNTRIED]
    untried = [
        f"{place} {text.replace(HOLE, '...')}"
        for place, text in messages()
        if ADVICE.search(text) and not any(fits(words, text) for words in tried)
    ]
    assert not untried, "\n".join([f"{len(untried)} messages advise what no test tries:", *untried])


def test_tests_that_are_said_to_follow_advice_are_there():
    for test in ELSEWHERE.values():
        file, name = test.split("::")
        assert f"def {name}(" in (TESTS / file).read_text(), test
