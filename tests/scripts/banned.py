"""What no source of this project may do: run a string, a shell or a stranger's objects."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

# What makes objects of bytes, and xml, whose parsers expand entities without bounds.
MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal"),
    *("shelve", "xml", "lxml", "pty", "runpy", "torch.hub", "torch.package"),
}
CALLS = {
    *("eval", "exec", "compile", "execfile", "__import__", "builtins.eval", "builtins.exec"),
    *("os.system", "os.popen", "os.popen2", "os.startfile", "tempfile.mktemp", "os.tempnam"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("shutil.unpack_archive", "types.CodeType", "types.FunctionType", "code.interact"),
    *("pandas.read_pickle", "pandas.eval", "torch.jit.load", "torch.serialization.safe_globals"),
    *("torch.serialization.add_safe_globals", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("yaml.full_load", "yaml.full_load_all", "yaml.load", "yaml.load_all"),
}
FAMILIES = ("os.spawn", "os.exec", "os.posix_spawn", "torch.hub.", "torch.package.")
LOADERS = {f"yaml.{c}{kind}Loader" for c in ("", "C") for kind in ("", "Full", "Unsafe")}
METHODS = {"extractall", "to_pickle", "read_pickle", "deserialize", "unsafe_load", "full_load"}
ARGUMENTS = ("pickle_module", "pickle_load_args")
_ADVICE = {"yaml.load": "; use yaml.safe_load"}

IN_SHELL = {
    "eval": re.compile(r"(^|[;&|({]|\bthen|\bdo|\belse)\s*eval\s"),
    "a script from a pipe": re.compile(r"\|\s*(sudo\s+)?(ba|da|z)?sh\b(?!\s*\w+\.sh)"),
    "source of a substitution": re.compile(r"(^|[;&|]\s*)(source|\.)\s+<\("),
    "bash -c of a variable": re.compile(r"\b(ba)?sh\s+-\w*c\s+\"?\$"),
}


def in_shell(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and finding of everything that is banned in a shell script."""
    for number, line in enumerate(source.splitlines(), start=1):
        yield from ((number, name) for name, form in IN_SHELL.items() if form.search(line))


def in_python(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and finding of everything that is banned in a Python source."""
    tree = ast.parse(source)
    names = _imported_names(tree)
    opens_archives = any(name.split(".")[0] in ("tarfile", "zipfile") for name in names.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node.lineno, f"import {m}") for m in _modules(node) if _is_banned(m))
        elif isinstance(node, ast.Attribute | ast.Name) and _resolve(node, names) in LOADERS:
            yield node.lineno, _resolve(node, names)
        elif isinstance(node, ast.Call):
            finding = _call(node, _resolve(node.func, names), opens_archives)
            if finding:
                yield node.lineno, finding


def _call(call: ast.Call, name: str, opens_archives: bool) -> str | None:
    """Returns what is wrong with a call, or None."""
    method = name.rpartition(".")[2] if isinstance(call.func, ast.Attribute) else ""
    if name in CALLS or name.startswith(FAMILIES):
        return f"{name}(...){_ADVICE.get(name, '')}"
    if method in METHODS or (method == "extract" and opens_archives):
        return f".{method}(...)"
    if method in ("eval", "query") and call.args and _is_text(call.args[0]):
        return f".{method}(...) of a text"
    for keyword in call.keywords:
        value = keyword.value
        is_false = isinstance(value, ast.Constant) and value.value is False
        if keyword.arg in ("shell", "allow_pickle") and not is_false:
            return f"{name}(..., {keyword.arg}={ast.unparse(value)})"
        if keyword.arg in ARGUMENTS:
            return f"{name}(..., {keyword.arg}={ast.unparse(value)})"
    if name.startswith("subprocess.") and call.args and _is_text(call.args[0]):
        return f"{name}(...) of a text"
    if name == "torch.load" and not _has_true(call, "weights_only"):
        return "torch.load(...) without weights_only=True"
    return None


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Returns what the imported names of a source stand for, {"np": "numpy"}."""
    names = {"np": "numpy", "pd": "pandas"}  # so that a few lines can be looked at alone
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def _resolve(node: ast.expr, names: dict[str, str]) -> str:
    """Returns the full name of what an expression names, whatever it was imported as.

    Of an attribute of something else than a name it is "?" and the attribute.
    """
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    first = names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"
    return ".".join([first, *attributes])


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = node.module or ""
    return [module] if _is_banned(module) else [f"{module}.{a.name}" for a in node.names]


def _is_banned(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in MODULES for count in (1, 2))


def _is_text(node: ast.expr) -> bool:
    """Returns whether an expression is a text for certain."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    is_constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_constant or isinstance(node, ast.JoinedStr)


def _has_true(call: ast.Call, argument: str) -> bool:
    return any(
        k.arg == argument and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )
